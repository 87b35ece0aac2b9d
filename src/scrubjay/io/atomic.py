"""Atomic writes: a file appears complete or not at all."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from scrubjay.errors import StorageError


def write_file(path: Path, content: bytes) -> None:
    """Write `path` atomically: a temporary file beside it, fsync, rename.

    Raises:
        StorageError: the disk is full or the folder cannot be written; an earlier file is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        cure = "free some space" if error.errno == errno.ENOSPC else "check the folder and its permissions"
        raise StorageError(f"{path}: could not be written ({error.strerror}): {cure}; nothing was changed.") from None


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically.

    Raises:
        StorageError: as `write_file`.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_file(path, text.encode(errors="backslashreplace"))  # lone surrogates in file names, as JSON escapes them
