"""One writer at a time in a folder: a file lock that the operating system releases however its process ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scrubjay.errors import CatalogueError, StorageError


@contextmanager
def locked(folder: Path, name: str = "lock") -> Iterator[None]:
    """Hold an exclusive lock inside the block; other processes and threads are refused.

    Args:
        folder: folder of the lock file; created if necessary.
        name: name of the lock file, for folders with several locks.

    Raises:
        CatalogueError: another process or thread holds the lock.
        StorageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / name).open("w")
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written ({error.strerror}); name a writable folder.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CatalogueError(f"{folder}: another process is working here; wait until it has finished.") from None
        yield
