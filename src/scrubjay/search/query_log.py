"""The log of live queries and their hits. Backfill plans, the detection of new classes and shadow answers use it.

    shop/queries.sqlite

A search never fails because of its log: a row that cannot be written is lost, with a warning. A process that is killed
loses the row that it was writing; a machine that fails may lose the newest rows, but never the file.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import StorageError
from scrubjay.search.query_database import TIMEOUT, HeldConnection, migrate, transaction
from scrubjay.types import Hit

KEPT = 10_000
"""Number of newest queries that are kept."""
_SEARCH_TIMEOUT = 0.5  # seconds that a search waits for them

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Query:
    """One query that was answered.

    Attributes:
        id: number of the row, increasing; 0 before it is written.
        image: path of the image file; None for an image without a file.
        content: hash of the image's bytes.
        generation: name of the generation that answered.
        vector: float32 (d,), embedding of the image by that generation.
        hits: id, URI, label and probability of a match of each hit, best first.
        matched: whether the best hit exceeded the match threshold; None where no threshold was known.
        milliseconds: duration of the search.
        shadow: name of the shadow generation that answers the query as well; None for none.
        shadow_hits: hits of the shadow generation; None until it has answered.
        at: time of the answer, ISO 8601, UTC.
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
    """The fields of hits that the log stores: id, URI, label and probability of a match."""
    return tuple((hit.id, hit.uri, hit.label, None if hit.match is None else float(hit.match)) for hit in hits)


class QueryLog:
    """The log in one SQLite file; any number of processes may read and write it.

    Args:
        path: path of the file; it is created by the first query.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()

    def append(self, queries: Sequence[Query]) -> None:
        """Append queries, in one transaction. Where that fails, a warning is logged and nothing is raised."""
        if not queries:
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        rows = [_row(query, at) for query in queries]
        try:
            with self._connection(_SEARCH_TIMEOUT) as connection, transaction(connection):
                connection.executemany(
                    "INSERT INTO queries"
                    " (at, image, content, generation, vector, hits, matched, milliseconds, shadow)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    rows,
                )
                connection.execute("DELETE FROM queries WHERE id <= (SELECT max(id) FROM queries) - ?", (KEPT,))
        except (sqlite3.Error, OSError) as error:
            lost = "a query was" if len(rows) == 1 else f"{len(rows)} queries were"
            logger.warning("%s: %s not logged (%s)", self.path, lost, error)

    def recent(self, number: int = KEPT) -> list[Query]:
        """The newest queries, oldest first.

        Raises:
            StorageError: the file is damaged, or cannot be read.
        """
        return self._select("ORDER BY id DESC LIMIT ?", (number,))[::-1]

    def pending(self, number: int = KEPT) -> list[Query]:
        """Queries that the shadow generation has not answered yet, oldest first; errors as in `recent`."""
        return self._select("WHERE shadow IS NOT NULL AND shadow_hits IS NULL ORDER BY id LIMIT ?", (number,))

    def answered(self, shadow: str) -> list[Query]:
        """Queries that this shadow generation has answered as well, oldest first; errors as in `recent`."""
        return self._select("WHERE shadow = ? AND shadow_hits IS NOT NULL ORDER BY id", (shadow,))

    def add_shadow_hits(self, query: Query, hits: Sequence[Hit]) -> None:
        """Store the hits of the shadow generation for a query.

        Raises:
            StorageError: the file cannot be written.
        """
        with self._reported(), self._connection() as connection:
            connection.execute("UPDATE queries SET shadow_hits = ? WHERE id = ?", (json.dumps(brief(hits)), query.id))

    def remove(self, ids: Collection[str], labels: Collection[str]) -> None:
        """Delete queries with removed images, and removed items from the hits of all others; overwrites both on disk.

        Args:
            ids: content hashes of images, which are also the ids of items.
            labels: names of classes.

        Raises:
            StorageError: the file is damaged, or cannot be read or written.
        """
        if not self.path.exists():
            return
        with self._reported(), self._connection() as connection:
            connection.execute("PRAGMA secure_delete = ON")
            with transaction(connection):
                rows = connection.execute("SELECT id, content, hits, shadow_hits FROM queries").fetchall()
                for row in rows:
                    if row["content"] in ids:
                        connection.execute("DELETE FROM queries WHERE id = ?", (row["id"],))
                        continue
                    texts = [_without(row[name], ids, labels) for name in ("hits", "shadow_hits")]
                    if texts != [row["hits"], row["shadow_hits"]]:
                        connection.execute(
                            "UPDATE queries SET hits = ?, shadow_hits = ? WHERE id = ?", (*texts, row["id"])
                        )
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def rename(self, old: str, new: str) -> None:
        """Give the label of a class in the hits of all queries another name; errors as in `remove`."""
        if not self.path.exists():
            return
        with self._reported(), self._connection() as connection, transaction(connection):
            for row in connection.execute("SELECT id, hits, shadow_hits FROM queries").fetchall():
                texts = [_relabelled(row[name], old, new) for name in ("hits", "shadow_hits")]
                if texts != [row["hits"], row["shadow_hits"]]:
                    connection.execute("UPDATE queries SET hits = ?, shadow_hits = ? WHERE id = ?", (*texts, row["id"]))

    def counts(self) -> Counter[str]:
        """Number of logged queries that found each item, by its id; errors as in `recent`."""
        rows = self._read("SELECT hits FROM queries", ())
        with self._reported():
            return Counter(hit[0] for row in rows for hit in _hits(row["hits"]))

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
        """Translate errors of SQLite into a `StorageError` that names the file."""
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise StorageError(
                f"{self.path}: cannot be read or written ({error}): free some space, set permissions, or try again."
            ) from None
        except (sqlite3.Error, ValueError) as error:
            raise StorageError(
                f"{self.path}: damaged ({error}): delete it, {self.path.name}-wal and {self.path.name}-shm; only the "
                "log of queries is lost."
            ) from None

    @contextmanager
    def _connection(self, wait: float = TIMEOUT) -> Iterator[sqlite3.Connection]:
        """The connection of this thread, which stays open: opening and closing one takes longer than a search."""
        held: HeldConnection | None = getattr(self._local, "held", None)
        if held is None or not held.is_of(self.path):
            held = self._local.held = HeldConnection(self.path)
        try:
            held.connection.execute(f"PRAGMA busy_timeout = {int(1000 * wait)}")
            migrate(held.connection)
            yield held.connection
        except BaseException:
            self._local.held = None  # the next use opens the file anew, as after an error of the disk it must
            raise


def _row(query: Query, at: str) -> tuple[Any, ...]:
    """The columns of a new row."""
    return (
        at,
        None if query.image is None else os.fsencode(query.image),  # file names are not always valid Unicode
        query.content,
        query.generation,
        np.asarray(query.vector, "<f4").tobytes(),
        json.dumps(query.hits),
        query.matched,
        query.milliseconds,
        query.shadow,
    )


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


def _without(text: str | None, ids: Collection[str], labels: Collection[str]) -> str | None:
    """Stored hits without removed items; the text itself where there are none."""
    hits = () if text is None else _hits(text)
    kept = [hit for hit in hits if hit[0] not in ids and hit[2] not in labels]
    return text if len(kept) == len(hits) else json.dumps(kept)


def _relabelled(text: str | None, old: str, new: str) -> str | None:
    """Stored hits with another name of a class; the text itself where it has none of this class."""
    hits = () if text is None else _hits(text)
    if all(hit[2] != old for hit in hits):
        return text
    return json.dumps([(name, uri, new if label == old else label, match) for name, uri, label, match in hits])


def _hits(text: str) -> tuple[tuple[str, str, str | None, float | None], ...]:
    return tuple((name, uri, label, match) for name, uri, label, match in json.loads(text))
