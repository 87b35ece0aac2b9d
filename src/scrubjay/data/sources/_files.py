"""Reading of folders and lists, shared by the sources; every problem is raised as a DataError."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from scrubjay.errors import DataError
from scrubjay.types import Split

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm"}
)


def folder(path: Path) -> Path:
    """The absolute path of an existing folder.

    Raises:
        DataError: the folder does not exist.
    """
    absolute = Path(os.path.abspath(path.expanduser()))
    if not absolute.is_dir():
        raise DataError(f"{path}: no such folder; give the folder that holds the images.")
    return absolute


def containing(root: Path, name: str, layout: str) -> Path:
    """The folder that holds the file `name`: `root`, or the only such folder at most two levels below it.

    Args:
        root: where to look.
        name: name of the file or folder to look for.
        layout: name of the data set, for the message.

    Raises:
        DataError: no such folder exists, or several do.
    """
    root = folder(root)
    for pattern in (name, f"*/{name}", f"*/*/{name}"):
        matches = sorted(root.glob(pattern))
        if len(matches) > 1:
            raise DataError(f"{root}: {name} is in {len(matches)} folders; give one of them: {matches[0].parent}.")
        if matches:
            return matches[0].parent
    raise DataError(f"{root}: it does not contain {name}; give the folder of {layout}.")


def inside(root: Path, relative: str, where: str) -> Path:
    """`root / relative`, if that lies inside `root`.

    Args:
        root: absolute path of the folder.
        relative: path of the entry.
        where: file and line of the entry, for the message.

    Raises:
        DataError: the path leads out of `root`.
    """
    path = Path(os.path.normpath(root / relative))
    if not path.is_relative_to(root):
        raise DataError(f"{where}: path {relative!r} leads out of {root}; use a path inside it.")
    return path


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """The non-empty lines of a text file, each after its position ("file, line number") for error messages.

    Raises:
        DataError: the file is missing, cannot be read, or is not text in UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; restore it from the published data set.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not text in UTF-8; restore it from the published data set.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions.") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield f"{path}, line {number}", line.strip()


def subfolders(path: Path) -> list[str]:
    """Names of the visible sub-folders of a folder, sorted.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        _unreadable(error)


def images_below(path: Path) -> list[Path]:
    """All image files below a folder, sorted. Hidden files and folders are left out, links are followed once.

    Raises:
        DataError: a folder cannot be read.
    """
    return [file for file in files_below(path) if file.suffix.lower() in SUFFIXES]


def files_below(path: Path) -> list[Path]:
    """All files below a folder, sorted. Hidden files and folders are left out, links are followed once.

    Raises:
        DataError: a folder cannot be read.
    """
    found: list[Path] = []
    visited: set[str] = set()
    for parent, folders, files in os.walk(path, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in visited else [name for name in folders if not name.startswith(".")]
        if real not in visited:
            found += [Path(parent, name) for name in files if not name.startswith(".")]
        visited.add(real)
    return sorted(found)


def divided(images: Iterable[Path], root: Path, test_share: float) -> dict[Path, Split]:
    """Which images of a class are for training and which for testing; at least one is for training.

    It is decided by a hash of the path below `root`, so that adding images moves no other.

    Args:
        images: paths of the images of one class.
        root: folder that the paths lie in.
        test_share: share of the images that become test images, about.
    """
    ranks = {path: _rank(path.relative_to(root)) for path in images}
    last = max(ranks, key=ranks.__getitem__, default=None)
    return {path: "test" if rank < test_share and path != last else "train" for path, rank in ranks.items()}


def _rank(path: Path) -> float:
    return (
        int.from_bytes(hashlib.blake2b(path.as_posix().encode(errors="surrogateescape"), digest_size=7).digest())
        / 2**56
    )


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions.")
