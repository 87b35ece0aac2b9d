"""One writer at a time in a folder: a file lock that the operating system releases however its process ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from scrubjay.errors import InUseError, StorageError


def try_lock(path: Path) -> IO[str] | None:
    """Take an exclusive lock, without waiting.

    Args:
        path: the lock file; its folder is created if necessary.

    Returns:
        The locked file: closing it releases the lock, and a process that inherits it holds the lock as well. None
        where another process or thread holds the lock.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise StorageError(f"{path.parent}: cannot be written ({error.strerror}); name a writable folder.") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


@contextmanager
def locked(folder: Path, name: str = "lock") -> Iterator[None]:
    """Hold an exclusive lock inside the block; other processes and threads are refused.

    Args:
        folder: folder of the lock file; created if necessary.
        name: name of the lock file, for folders with several locks.

    Raises:
        InUseError: another process or thread holds the lock.
        StorageError: the folder cannot be written.
    """
    file = try_lock(folder / name)
    if file is None:
        raise InUseError(f"{folder}: another process is working here; wait until it has finished.")
    with file:
        yield
