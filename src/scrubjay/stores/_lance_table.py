"""One LanceDB table with its errors translated: the only place that calls the library."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scrubjay.errors import CatalogueError, ScrubjayError, StorageError

# Declared as key in the schema: without it two writers that insert the same new id at once leave two rows.
KEY = pa.field("id", pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key:position": "1"})
_VECTORS, _IDS = "vector_idx", "id_idx"
_REFINED = 4  # times as many as asked for are compared by their vectors: the index knows four bits a coordinate
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class Database:
    """A folder of tables; made on the first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with translated(folder):
            import lancedb

            # zero: every read looks for commits of other processes first
            self._connection = lancedb.connect(folder, read_consistency_interval=timedelta(0))

    def make(self, name: str, schema: pa.Schema) -> Table:
        """The table `name`, made when there is none, or when its making was interrupted."""
        path = self.folder / f"{name}.lance"
        with translated(path):
            return Table(path, self._connection.create_table(name, schema=schema, exist_ok=True))

    def open(self, name: str) -> Table:
        """The table `name`, which exists."""
        path = self.folder / f"{name}.lance"
        with translated(path):
            return Table(path, self._connection.open_table(name))

    def drop(self, name: str) -> None:
        """Remove the table `name` and its files, if there is one."""
        with translated(self.folder / f"{name}.lance"):
            self._connection.drop_table(name, ignore_missing=True)


class Table:
    """Rows under the key `id`. Every write is one commit: a crash leaves all of it or nothing."""

    def __init__(self, path: Path, table: Any) -> None:
        self.path = path
        self._table = table

    def version(self) -> int:
        """Number of the newest commit, of whichever process."""
        with translated(self.path):
            return int(self._table.version)

    def count(self) -> int:
        """Number of rows."""
        with translated(self.path):
            return int(self._table.count_rows())

    def read(self, columns: Sequence[str], ids: Iterable[str] | None = None) -> pa.Table:
        """These columns of all rows, or of the rows with these ids, in no particular order."""
        with translated(self.path):
            query = self._table.search().select(list(columns))
            return (query if ids is None else query.where(_among(ids))).to_arrow()

    def blocks(self, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """These columns of all rows of one moment, about so many at a time: never all in memory."""
        with translated(self.path):
            yield from self._table.search().select(list(columns)).to_batches(rows)

    def sample(self, columns: Sequence[str], count: int, seed: int) -> pa.Table:
        """These columns of so many rows, or of all when there are no more, picked by chance."""
        with translated(self.path):
            there = self._table.count_rows()
            picked = np.random.default_rng(seed).choice(there, min(count, there), replace=False)
            return self._table.take_offsets(sorted(picked.tolist())).select(list(columns)).to_arrow()

    def neighbours(self, queries: NDArray[np.float32], limit: int, probes: int) -> list[pa.Table]:
        """What the index finds for each query (Q, d): `limit` rows at most with all their columns, in no order.

        Rows that the index has yet to take in are among them. Without an index every row is looked at.
        """
        with translated(self.path):
            # not a batch of one: it would come back without the number of its query
            single = queries[0] if len(queries) == 1 else queries
            search = self._table.search(single).distance_type("dot").limit(limit)
            rows = (
                search.nprobes(probes)
                .refine_factor(_REFINED)
                .select(["id", "content_hash", "vector", "_distance"])
                .to_arrow()
            )
        if len(queries) == 1:
            return [rows]
        number = rows["query_index"].to_numpy()
        return [rows.filter(pa.array(number == query)) for query in range(len(queries))]

    def indexed(self) -> bool:
        """Whether there is an index on the vectors."""
        return self._has(_VECTORS)

    def index_vectors(self, partitions: int) -> None:
        """Build the index on the vectors, in place of the one there is."""
        with translated(self.path):
            from lancedb.index import IvfRq

            config = IvfRq(distance_type="dot", num_bits=4, num_partitions=partitions)
            self._table.create_index("vector", config=config, name=_VECTORS)

    def index_ids(self) -> None:
        """Build the index on the ids when there is none; `compact` takes new rows into it."""
        if not self._has(_IDS):
            with translated(self.path):
                from lancedb.index import BTree

                self._table.create_index("id", config=BTree(), name=_IDS)

    def remember(self, facts: Mapping[str, str]) -> None:
        """Keep a few facts with the column of the vectors."""
        with translated(self.path):
            self._table.update_field_metadata({"path": "vector", "metadata": dict(facts)})

    def remembered(self) -> dict[str, str]:
        """The facts that are kept with the column of the vectors."""
        with translated(self.path):
            kept = self._table.schema.field("vector").metadata or {}
            return {key.decode(): value.decode() for key, value in kept.items()}

    def put(self, rows: pa.Table, replace: bool = True) -> None:
        """Insert rows of distinct ids; a row with an id that is there already replaces it, or is left out."""
        with translated(self.path):
            merge = self._table.merge_insert("id").when_not_matched_insert_all()
            (merge.when_matched_update_all() if replace else merge).execute(rows)

    def compact(self) -> None:
        """Write small fragments together and drop versions older than an hour, which no reader can hold any more."""
        with translated(self.path):
            self._table.optimize(cleanup_older_than=timedelta(hours=1))

    def delete(self, ids: Iterable[str], contents: Iterable[str] | None = None) -> int:
        """Remove the rows with these ids, and these content hashes; returns how many there were."""
        only = "" if contents is None else f" AND {_among(contents, 'content_hash')}"
        with translated(self.path):
            return int(self._table.delete(_among(ids) + only).num_deleted_rows)

    def _has(self, index: str) -> bool:
        with translated(self.path):
            return any(there.name == index for there in self._table.list_indices())


def _among(values: Iterable[str], column: str = "id") -> str:
    quoted = ("'" + text.replace("'", "''") + "'" for text in values)
    return f"{column} IN ({', '.join(quoted)})"


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what the library and the system raise about `path` into an error that names it and the cure."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise _translation(error, path) from error


def _translation(error: Exception, path: Path) -> ScrubjayError:
    text = str(error)
    number = re.search(r"\(os error (\d+)\)", text)  # how Rust writes an errno
    code = int(number[1]) if number else getattr(error, "errno", None)
    if code in _FULL:
        return StorageError(f"{path}: {os.strerror(code)}; free some space and run it again: what was stored stays.")
    if code in _FORBIDDEN:
        return StorageError(f"{path}: {os.strerror(code)}; make the folder writable, or choose another.")
    if code in (errno.EEXIST, errno.ENOTDIR):
        return StorageError(f"{path}: {os.strerror(code)}; give the path of a folder.")
    if "commit conflict" in text:
        return CatalogueError(f"{path}: another process writes to it all the time; run it again when that is done.")
    reason = text.partition(", /")[0].removeprefix("lance error: ")[:200]
    return StorageError(f"{path} is damaged or cannot be read ({reason}); restore the gallery from a copy.")
