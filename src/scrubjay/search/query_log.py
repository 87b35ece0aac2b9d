"""The log of live queries: what was asked and found, for planning, for spotting new classes, for answers in the shadow.

    shop/queries.sqlite

Writing to it never fails a search: where it cannot be written, the row is lost and a warning goes to the log. A process
that dies loses the row that it was writing; a machine that does may lose the newest ones, never the file.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import StorageError
from scrubjay.types import Hit

KEPT = 10_000
"""The newest queries that are kept."""
_WAIT = 5.0  # seconds for other writers
_HURRY = 0.5  # seconds that a search waits for them

logger = logging.getLogger(__name__)

_MIGRATIONS = (
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
"""Statements that lead from each version of the tables to the next; never change one that was released."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query that was answered.

    Attributes:
        id: rising number; 0 before it is written.
        image: where its file was.
        content: hash of its bytes.
        generation: the one that answered.
        vector: float32 (d,), of that generation.
        hits: id, URI, label and probability of a match of what was found, best first.
        matched: whether the best was likely to be a match; None where nothing was known about it.
        milliseconds: from the image to the answer.
        shadow: the generation that is to answer too, or None.
        shadow_hits: what it found; None as long as it has not.
        at: time, ISO 8601, UTC.
    """

    image: str | None
    content: str
    generation: str
    vector: NDArray[np.float32]
    hits: tuple[tuple[str, str, str | None, float | None], ...]
    matched: bool | None
    milliseconds: float
    shadow: str | None = None
    shadow_hits: tuple[tuple[str, str, str | None, float | None], ...] | None = None
    id: int = 0
    at: str = ""


def brief(hits: Sequence[Hit]) -> tuple[tuple[str, str, str | None, float | None], ...]:
    """What the log keeps of hits."""
    return tuple((hit.id, hit.uri, hit.label, None if hit.match is None else float(hit.match)) for hit in hits)


class QueryLog:
    """The log in a file; any number of processes may read and write it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, query: Query) -> None:
        """Write a query down, if that can be done; a search is never failed by its log."""
        row = (
            datetime.now(UTC).isoformat(timespec="milliseconds"),
            None if query.image is None else os.fsencode(query.image),  # names of files need not be Unicode
            query.content,
            query.generation,
            np.asarray(query.vector, "<f4").tobytes(),
            json.dumps(query.hits),
            query.matched,
            query.milliseconds,
            query.shadow,
        )
        try:
            with self._connection(_HURRY) as connection, _transaction(connection):
                connection.execute(
                    "INSERT INTO queries"
                    " (at, image, content, generation, vector, hits, matched, milliseconds, shadow)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
                connection.execute("DELETE FROM queries WHERE id <= (SELECT max(id) FROM queries) - ?", (KEPT,))
        except (sqlite3.Error, OSError) as error:
            logger.warning("%s: a query was not written down (%s)", self.path, error)

    def recent(self, number: int = KEPT) -> list[Query]:
        """The newest queries, oldest first.

        Raises:
            StorageError: the file is damaged, or cannot be read.
        """
        return self._select("ORDER BY id DESC LIMIT ?", (number,))[::-1]

    def pending(self, number: int = KEPT) -> list[Query]:
        """Queries that a shadow generation has yet to answer, oldest first; errors as in `recent`."""
        return self._select("WHERE shadow IS NOT NULL AND shadow_hits IS NULL ORDER BY id LIMIT ?", (number,))

    def answered(self, shadow: str) -> list[Query]:
        """Queries that a shadow generation has answered too, oldest first; errors as in `recent`."""
        return self._select("WHERE shadow = ? AND shadow_hits IS NOT NULL ORDER BY id", (shadow,))

    def answer(self, query: Query, hits: Sequence[Hit]) -> None:
        """Write down what the shadow generation has found.

        Raises:
            StorageError: the file cannot be written.
        """
        with self._reported(), self._connection() as connection:
            connection.execute("UPDATE queries SET shadow_hits = ? WHERE id = ?", (json.dumps(brief(hits)), query.id))

    def counts(self) -> Counter[str]:
        """How often each item was found, by its id; errors as in `recent`."""
        found = self._read("SELECT hits FROM queries", ())
        with self._reported():
            return Counter(hit[0] for row in found for hit in _hits(row["hits"]))

    def _select(self, rest: str, values: tuple[Any, ...]) -> list[Query]:
        rows = self._read(f"SELECT * FROM queries {rest}", values)
        with self._reported():
            return [_query(row) for row in rows]

    def _read(self, statement: str, values: tuple[Any, ...]) -> list[sqlite3.Row]:
        if not self.path.exists():
            return []
        with self._reported(), self._connection() as connection:
            return connection.execute(statement, values).fetchall()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise StorageError(
                f"{self.path}: cannot be read or written ({error}): make room, mend permissions, or wait for others."
            ) from None
        except (sqlite3.Error, ValueError) as error:
            raise StorageError(
                f"{self.path}: damaged ({error}): delete it and what is beside it, {self.path.name}-wal and "
                f"{self.path.name}-shm; only the log of queries is lost."
            ) from None

    @contextmanager
    def _connection(self, wait: float = _WAIT) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=wait, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            with suppress(sqlite3.OperationalError):  # busy: another connection sees to it; all is well in either mode
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            _migrate(connection)
            yield connection
        finally:
            connection.close()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")  # a lock taken later may not be waited for
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables up to date.

    Raises:
        sqlite3.OperationalError: a newer version of scrubjay has written the file.
    """
    if _version(connection) == len(_MIGRATIONS):
        return
    with _transaction(connection):
        version = _version(connection)  # another process may have been faster
        if version > len(_MIGRATIONS):
            raise sqlite3.OperationalError(f"written by a newer scrubjay, version {version} of its tables: upgrade")
        for number in range(version, len(_MIGRATIONS)):
            for statement in _MIGRATIONS[number]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _query(row: sqlite3.Row) -> Query:
    shadow_hits = row["shadow_hits"]
    return Query(
        image=None if row["image"] is None else os.fsdecode(row["image"]),
        content=row["content"],
        generation=row["generation"],
        vector=np.frombuffer(row["vector"], "<f4").astype(np.float32),
        hits=_hits(row["hits"]),
        matched=None if row["matched"] is None else bool(row["matched"]),
        milliseconds=row["milliseconds"],
        shadow=row["shadow"],
        shadow_hits=None if shadow_hits is None else _hits(shadow_hits),
        id=row["id"],
        at=row["at"],
    )


def _hits(text: str) -> tuple[tuple[str, str, str | None, float | None], ...]:
    return tuple((name, uri, label, match) for name, uri, label, match in json.loads(text))
