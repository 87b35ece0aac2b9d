"""Image archives, which are unpacked once into the user's cache folder."""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from scrubjay.data.sources._files import inside
from scrubjay.errors import DataError, StorageError

_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def unpacked(archive: Path) -> Path:
    """The folder with the contents of a .zip or .tar.* file, which is unpacked on the first call.

    Links and devices are left out. The folder is renamed into place when it is complete, so a partial one is never
    used.

    Raises:
        DataError: the file is not an archive, is damaged, or has an entry whose path leads out of the folder.
        StorageError: the cache folder is full or cannot be written.
    """
    archive = archive.absolute()
    target = cache_folder() / f"{archive.name}-{_identity(archive)}"
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    except OSError as error:
        raise StorageError(
            f"{target.parent}: cannot be written ({error.strerror}); set XDG_CACHE_HOME to another folder."
        ) from None
    try:
        _unpack(archive, partial)
        partial.replace(target)
    except OSError as error:
        if not target.is_dir():  # else another process has unpacked it meanwhile
            raise StorageError(
                f"{target}: cannot be written ({error.strerror}); free some space, or set XDG_CACHE_HOME to another "
                "folder."
            ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def cache_folder() -> Path:
    """The folder of what can be made again: `scrubjay` below XDG_CACHE_HOME, by default `~/.cache`."""
    return Path(os.path.abspath(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")) / "scrubjay"


def _identity(archive: Path) -> str:
    state = archive.stat()
    return hashlib.blake2b(f"{archive}\0{state.st_size}\0{state.st_mtime_ns}".encode(), digest_size=8).hexdigest()


def _unpack(archive: Path, target: Path) -> None:
    try:
        for name, content in _members(archive):
            path = inside(target, name, str(archive))
            path.parent.mkdir(parents=True, exist_ok=True)
            with content, path.open("wb") as file:
                shutil.copyfileobj(content, file)
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk; decompressors raise OSError without a number
        raise DataError(f"{archive}: damaged archive ({error}); download it again.") from None


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                if not entry.is_dir():
                    yield entry.filename, zipped.open(entry)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tarred:
            for member in tarred:
                content = tarred.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield member.name, content
            _check_end(tarred)
    else:
        raise DataError(f"{archive}: neither a folder nor a .zip or .tar archive; give the path of one.")


def _check_end(tarred: tarfile.TarFile) -> None:
    """Read the archive to its end, and raise if it ends early.

    tarfile takes a damaged or truncated header for the end of the archive, and a compressed file's checksum is only
    verified at the end.
    """
    file = tarred.fileobj
    assert file is not None
    file.seek(tarred.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("truncated or overwritten")
    while file.read(2**20):
        pass
