"""One writer at a time in a folder; the operating system drops the lock when its process ends, however it ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scrubjay.errors import CatalogueError, StorageError


@contextmanager
def locked(folder: Path, name: str = "lock") -> Iterator[None]:
    """Inside of the block no other process, and no other thread, gets past the same call.

    Args:
        folder: where the lock lies.
        name: of its file, where one folder has several.

    Raises:
        CatalogueError: another one is in there.
        StorageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / name).open("w")
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written ({error.strerror}); name a folder that can.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CatalogueError(f"{folder}: another process is at work here; wait until it has finished.") from None
        yield
