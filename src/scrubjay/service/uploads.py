"""Images that were sent to be learned: a folder for each upload, with a sub-folder for each class.

    shop/uploads/<id>/images/<class>/…     the images
    shop/uploads/<id>/left_out/<class>/…   those that a job was told not to use
    shop/uploads/<id>/check.json           what the check of the upload found

A folder appears completely or not at all. No name from a request is used as a path before it was checked, and files of
a finished upload are found by comparing names with those that exist.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from scrubjay.data.sources._files import SUFFIXES, inside
from scrubjay.errors import DataError, StorageError
from scrubjay.service.schemas.uploads import CheckAnswer, CheckFinding

EXPIRES = 24 * 3600.0
"""Seconds after which an upload that no job uses is deleted."""
ENTRIES = 50_000
"""Largest number of files in an upload."""
TOTAL = 8 * 2**30
"""Largest number of bytes of all its files, uncompressed."""
RATIO = 100
"""Largest ratio of uncompressed to compressed bytes of an archive: images hardly compress at all."""
_SLACK = 10 * 2**20  # bytes that any archive may unpack to
_BLOCK = 2**20
_ID = re.compile(r"[0-9a-f]{16}")
_LINK = 0o120000  # type of a symbolic link in the mode of a file
_NAME_BYTES, _DEPTH = 200, 16


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload.

    Attributes:
        folder: its folder.
    """

    folder: Path

    @property
    def id(self) -> str:
        """Identity of the upload."""
        return self.folder.name

    @property
    def images(self) -> Path:
        """The folder that is learned from."""
        return self.folder / "images"

    def files(self) -> dict[str, Path]:
        """All images by their names inside the upload, those that were left out included."""
        found: dict[str, Path] = {}
        for kept in (self.images, self.folder / "left_out"):
            found |= {path.relative_to(kept).as_posix(): path for path in sorted(kept.rglob("*")) if path.is_file()}
        return found

    def select(self, leave_out: Collection[str]) -> None:
        """Move images out of the folder that is learned from, and those that were left out before back into it.

        Raises:
            DataError: an image is not in the upload, or none is left.
            StorageError: a file cannot be moved.
        """
        files = self.files()
        for name in leave_out:
            if name not in files:
                raise DataError(f"the upload holds no image {name!r}; give names as its check shows them.")
        if not files.keys() - set(leave_out):
            raise DataError("all images of the upload would be left out; leave some.")
        for name, path in files.items():
            target = (self.folder / "left_out" if name in leave_out else self.images) / name
            if target != path:
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    path.rename(target)
                except OSError as error:
                    raise StorageError(f"{path}: cannot be moved ({error.strerror}): check permissions.") from None
        for folder in sorted(self.images.rglob("*"), reverse=True):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()  # a class without images would be refused

    def remove(self) -> None:
        """Delete the upload."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Uploads:
    """All uploads of a catalogue.

    Args:
        catalogue: folder of the catalogue.
    """

    def __init__(self, catalogue: Path) -> None:
        self.folder = catalogue / "uploads"

    def get(self, name: str) -> Upload | None:
        """An upload; None where there is none with this identity."""
        upload = Upload(self.folder / name) if _ID.fullmatch(name) else None
        return upload if upload is not None and upload.folder.is_dir() else None

    def from_zip(self, archive: IO[bytes]) -> tuple[Upload, list[CheckFinding]]:
        """Unpack a zip archive of class folders.

        Returns:
            The upload, and what was left out because it is not an image of a class.

        Raises:
            DataError: the archive is damaged, encrypted, too large, or holds links or paths that lead out of it.
            StorageError: the disk is full or the folder cannot be written.
        """
        try:
            with zipfile.ZipFile(archive) as zipped:
                entries = [entry for entry in zipped.infolist() if not entry.filename.endswith("/")]
                _check_archive(entries, archive.seek(0, os.SEEK_END))
                return self._received((entry.filename, zipped.open(entry)) for entry in entries)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise DataError(f"the archive cannot be unpacked ({error}); make it again as a plain zip file.") from None

    def from_files(self, files: Iterable[tuple[str, IO[bytes]]]) -> tuple[Upload, list[CheckFinding]]:
        """Store files whose names are paths `class/file.jpg`; result and errors as in `from_zip`."""
        return self._received(files)

    def expire(self, used: Collection[str], seconds: float = EXPIRES) -> None:
        """Delete uploads that are older than some seconds, except those that jobs use."""
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            try:
                old = time.time() - folder.stat().st_mtime > seconds
            except FileNotFoundError:  # another process deletes it too
                continue
            if old and folder.name not in used:
                shutil.rmtree(folder, ignore_errors=True)

    def _received(self, files: Iterable[tuple[str, IO[bytes]]]) -> tuple[Upload, list[CheckFinding]]:
        building = self.folder / f".{secrets.token_hex(8)}"
        try:
            (building / "images").mkdir(parents=True)
            left_out = _write(building / "images", files)
            _unwrap(building / "images")
            upload = Upload(self.folder / building.name.removeprefix("."))
            building.rename(upload.folder)
        except OSError as error:
            raise StorageError(
                f"{self.folder}: the upload could not be stored ({error.strerror}): free some space."
            ) from None
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return upload, left_out


def read_check(upload: Upload) -> CheckAnswer | None:
    """What the check of an upload found; None where it was not checked to the end."""
    try:
        return CheckAnswer.model_validate_json((upload.folder / "check.json").read_bytes())
    except (OSError, ValueError):
        return None


def checked_name(name: str) -> str:
    """A name of a file as it is stored: a relative path in the composed form of Unicode.

    Raises:
        DataError: the name is absolute, leads out of its folder, or is not a name of a file.
    """
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    parts = [part for part in parts if part != "."]
    bad = not parts or len(parts) > _DEPTH or ":" in parts[0]
    for part in parts:
        bad = bad or part in ("", "..") or not part.isprintable() or len(part.encode(errors="replace")) > _NAME_BYTES
        bad = bad or "\N{REPLACEMENT CHARACTER}" in part or any(0xD800 <= ord(letter) < 0xE000 for letter in part)
    if bad:
        raise DataError(f"{name[:100]!r}: not a relative path of a file, such as 'apple/1.jpg'; rename it.")
    return "/".join(parts)


def _check_archive(entries: Collection[zipfile.ZipInfo], size: int) -> None:
    """Refuse an archive by what its directory says; what it unpacks to is counted again while it is unpacked."""
    if len(entries) > ENTRIES:
        raise DataError(f"the archive holds {len(entries)} files, more than {ENTRIES}: send it in parts.")
    for entry in entries:
        if entry.external_attr >> 16 & 0o170000 == _LINK:
            raise DataError(f"the archive holds a link, {entry.filename[:100]!r}; put the file itself into it.")
        if entry.flag_bits & 1:
            raise DataError("the archive is encrypted; make it again without a password.")
    total = sum(entry.file_size for entry in entries)
    if total > max(RATIO * size, _SLACK):
        raise DataError(
            f"the archive would unpack to {total / max(size, 1):.0f} times its size, more than {RATIO} times: "
            "images do not compress like that; make it again with images only."
        )


def _write(root: Path, files: Iterable[tuple[str, IO[bytes]]]) -> list[CheckFinding]:
    """Write the images; returns what was left out."""
    written, left = 0, TOTAL
    no_image: list[str] = []
    no_class: list[str] = []
    for number, (name, content) in enumerate(files):
        if number >= ENTRIES:
            raise DataError(f"more than {ENTRIES} files: send them in parts.")
        with closing(content):
            relative = PurePosixPath(checked_name(name))
            hidden = any(part.startswith(".") or part == "__MACOSX" for part in relative.parts)
            if hidden:
                continue
            if relative.suffix.lower() not in SUFFIXES:
                no_image.append(str(relative))
            elif len(relative.parts) < 2:
                no_class.append(str(relative))
            else:
                path = inside(root, str(relative), "upload")
                left -= _copy(content, path, left)
                written += 1
    if not written:
        raise DataError("no image in a folder of a class was sent: put the images of each class into its own folder.")
    reasons = {"not an image file by its name": no_image, "in no folder of a class": no_class}
    return [
        CheckFinding(kind="unreadable", message=f"{len(names)} left out: {reason}", images=names[:20], items=[])
        for reason, names in reasons.items()
        if names
    ]


def _copy(content: IO[bytes], path: Path, limit: int) -> int:
    """Copy a file of at most `limit` bytes; returns their number."""
    size = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    except (FileExistsError, NotADirectoryError):
        raise DataError(f"{path.name!r} was sent twice under the same path; give every file its own name.") from None
    with file:
        for block in iter(lambda: content.read(_BLOCK), b""):
            size += len(block)
            if size > limit:
                raise DataError(f"the files take more than {TOTAL // 2**30} GiB: send them in parts.")
            file.write(block)
    return size


def _unwrap(root: Path) -> None:
    """Take the class folders out of a single folder around them, as archives of a folder have one."""
    (outer, *others) = list(root.iterdir())
    inner = list(_entries(outer))
    if others or len(inner) < 2 or not all(entry.is_dir() for entry in inner) or outer.name in ("train", "test"):
        return
    aside = root.with_name("unwrapped")
    outer.rename(aside)
    root.rmdir()
    aside.rename(root)


def _entries(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())
