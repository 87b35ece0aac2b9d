"""The SQLite file of the query log: its tables, its connections and its transactions."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TIMEOUT = 5.0
"""Seconds to wait for other writers."""

MIGRATIONS = (
    (
        """CREATE TABLE queries (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        picture TEXT,
        content TEXT NOT NULL,
        generation TEXT NOT NULL,
        vector BLOB NOT NULL,
        hits TEXT NOT NULL,
        matched INTEGER,
        milliseconds REAL NOT NULL,
        shadow TEXT,
        shadow_hits TEXT
        )""",
        "CREATE INDEX pending ON queries (shadow) WHERE shadow_hits IS NULL",
    ),
    ("ALTER TABLE queries RENAME COLUMN picture TO image",),
)
"""SQL statements that migrate each version of the tables to the next. Never change one that was released."""


class HeldConnection:
    """An open connection. It is closed when nothing refers to it any more, as when its thread has ended."""

    def __init__(self, path: Path) -> None:
        self._process = os.getpid()
        # It is used by one thread only, but the collector may close it in another.
        self.connection = sqlite3.connect(path, timeout=TIMEOUT, isolation_level=None, check_same_thread=False)
        self.connection.row_factory = sqlite3.Row
        with suppress(sqlite3.OperationalError):  # busy: another connection sets it; either mode works
            self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        self._file = _identity(path)

    def is_of(self, path: Path) -> bool:
        """Whether this is the file at the path still, and this the process that opened it (SQLite forbids others)."""
        return self._process == os.getpid() and self._file == _identity(path)

    def __del__(self) -> None:
        connection = getattr(self, "connection", None)
        if connection is not None and self._process == os.getpid():
            connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells the file at a path from one that replaces it."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")  # SQLite does not always wait for a lock that is taken later
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def migrate(connection: sqlite3.Connection) -> None:
    """Migrate the tables to the current version.

    Raises:
        sqlite3.OperationalError: a newer version of scrubjay has written the file.
    """
    if _version(connection) == len(MIGRATIONS):
        return
    with transaction(connection):
        version = _version(connection)  # read again under the lock: another process may have migrated
        if version > len(MIGRATIONS):
            raise sqlite3.OperationalError(f"written by a newer scrubjay, version {version} of its tables: upgrade")
        for number in range(version, len(MIGRATIONS)):
            for statement in MIGRATIONS[number]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
