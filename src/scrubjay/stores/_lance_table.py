"""LanceDB databases and tables with translated errors: the only module that calls the library."""

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

# Declared as the key in the schema: else two writers that insert the same new id at the same time leave two rows.
KEY = pa.field("id", pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key:position": "1"})
_VECTORS, _IDS = "vector_idx", "id_idx"
_REFINED = 4  # factor of candidates compared by their full vectors: the index has only four bits per coordinate
# By default the caches may take gigabytes. Each commit adds metadata of a version that nobody reads again.
_INDEX_CACHE, _METADATA_CACHE = 512 * 2**20, 32 * 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_REASONS = (r"<Message>([^<]+)", r'message: "([^"]+)"', r"Generic \w+ error: ([^,]+)", r"status: (\d+)")
"""Where an error of object storage says what is wrong: as S3 answers, as the network or the library tells it."""


class Database:
    """Tables in a folder, which is created on first use, or below an address in object storage.

    Args:
        place: the folder, or the address, such as `s3://bucket/gallery`.
    """

    def __init__(self, place: Path | str) -> None:
        self.place = place
        with translated(place):
            import lancedb

            # read_consistency_interval zero: every read first looks for commits of other processes
            session = lancedb.Session(index_cache_size_bytes=_INDEX_CACHE, metadata_cache_size_bytes=_METADATA_CACHE)
            self._connection = lancedb.connect(place, read_consistency_interval=timedelta(0), session=session)

    def make(self, name: str, schema: pa.Schema) -> Table:
        """The table `name`, created if it does not exist or if its creation was interrupted."""
        path = self._of(name)
        with translated(path):
            return Table(path, self._connection.create_table(name, schema=schema, exist_ok=True))

    def has(self, name: str) -> bool:
        """Whether there is a table `name`."""
        path = self._of(name)
        if isinstance(path, Path):
            return path.is_dir()
        with translated(path):
            try:
                self._connection.open_table(name)
            except ValueError as error:
                if "not found" not in str(error):
                    raise
                return False
            return True

    def open(self, name: str) -> Table:
        """The existing table `name`."""
        path = self._of(name)
        with translated(path):
            return Table(path, self._connection.open_table(name))

    def drop(self, name: str) -> None:
        """Remove the table `name` and its files, if it exists."""
        with translated(self._of(name)):
            self._connection.drop_table(name, ignore_missing=True)

    def _of(self, name: str) -> Path | str:
        """Where a table is."""
        place = self.place
        return place / f"{name}.lance" if isinstance(place, Path) else f"{place.rstrip('/')}/{name}.lance"


class Table:
    """A table of rows with the key `id`. Every write is one commit: after a crash all of it is stored, or nothing."""

    def __init__(self, path: Path | str, table: Any) -> None:
        self.path = path
        self.name = Path(path).stem
        self._table = table

    def version(self) -> int:
        """Number of the newest commit by any process."""
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
            return (query if ids is None else query.where(among(ids))).to_arrow()

    def first(self, columns: Sequence[str], limit: int, after: str | None, conditions: Sequence[str]) -> pa.Table:
        """These columns of the first rows in id order that come after an id and meet all conditions, in SQL."""
        texts = [*conditions, *([] if after is None else [f"id > {_quoted(after)}"])]
        with translated(self.path):
            from lancedb.query import ColumnOrdering

            query = self._table.search().select(list(columns))
            if texts:
                query = query.where(" AND ".join(texts))
            return query.order_by([ColumnOrdering(column_name="id")]).limit(limit).to_arrow()

    def blocks(self, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """These columns of all rows of one version, in batches of about `rows`, so that not all are in memory."""
        with translated(self.path):
            yield from self._table.search().select(list(columns)).to_batches(rows)

    def sample(self, columns: Sequence[str], count: int, seed: int) -> pa.Table:
        """These columns of `count` random rows, or of all rows if there are fewer."""
        with translated(self.path):
            total = self._table.count_rows()
            picked = np.random.default_rng(seed).choice(total, min(count, total), replace=False)
            return self._table.take_offsets(sorted(picked.tolist())).select(list(columns)).to_arrow()

    def neighbours(self, queries: NDArray[np.float32], limit: int, probes: int) -> list[pa.Table]:
        """At most `limit` rows that the index finds for each query (Q, d), with their vectors, in no particular order.

        Rows that are not in the index yet are searched too. Without an index every row is compared.
        """
        with translated(self.path):
            # a single query is passed as a vector: the result of a batch of one has no column query_index
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
        """Build the index on the vectors; it replaces an existing one."""
        with translated(self.path):
            from lancedb.index import IvfRq

            config = IvfRq(distance_type="dot", num_bits=4, num_partitions=partitions)
            self._table.create_index("vector", config=config, name=_VECTORS)

    def index_ids(self) -> None:
        """Build the index on the ids if there is none; `compact` adds new rows to it."""
        if not self._has(_IDS):
            with translated(self.path):
                from lancedb.index import BTree

                self._table.create_index("id", config=BTree(), name=_IDS)

    def write_facts(self, facts: Mapping[str, str]) -> None:
        """Store texts by name in the metadata of the column `vector`."""
        with translated(self.path):
            self._table.update_field_metadata({"path": "vector", "metadata": dict(facts)})

    def read_facts(self) -> dict[str, str]:
        """The texts that `write_facts` stored."""
        with translated(self.path):
            metadata = self._table.schema.field("vector").metadata or {}
            return {key.decode(): value.decode() for key, value in metadata.items()}

    def put(self, rows: pa.Table, replace: bool = True) -> None:
        """Insert rows with distinct ids; existing rows with these ids are replaced, or kept if not `replace`."""
        with translated(self.path):
            merge = self._table.merge_insert("id").when_not_matched_insert_all()
            if replace:
                merge = merge.when_matched_update_all()
            merge.execute(rows)

    def fragments(self) -> int:
        """Number of fragments: about one for each commit since the last compaction."""
        with translated(self.path):
            return int(self._table.stats()["fragment_stats"]["num_fragments"])

    def compact(self) -> None:
        """Merge small fragments, and remove versions older than an hour, which no reader uses any more."""
        with translated(self.path):
            self._table.optimize(cleanup_older_than=timedelta(hours=1))

    def delete(self, ids: Iterable[str], contents: Iterable[str] | None = None) -> int:
        """Remove the rows with these ids (and, if given, these content hashes); returns the number of removed rows."""
        only = "" if contents is None else f" AND {among(contents, 'content_hash')}"
        with translated(self.path):
            return int(self._table.delete(among(ids) + only).num_deleted_rows)

    def _has(self, index: str) -> bool:
        with translated(self.path):
            return any(existing.name == index for existing in self._table.list_indices())


def among(values: Iterable[str], column: str = "id") -> str:
    """The condition, in SQL, that a column has one of these values."""
    return f"{column} IN ({', '.join(map(_quoted, values))})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def translated(path: Path | str) -> Iterator[None]:
    """Translate errors of the library and the system into ours, which name `path` and say what to do."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise _translation(error, path) from error


def _translation(error: Exception, path: Path | str) -> ScrubjayError:
    text = str(error)
    number = re.search(r"\(os error (\d+)\)", text)  # how Rust writes an errno
    code = int(number[1]) if number else getattr(error, "errno", None)
    if code in _FULL:
        return StorageError(
            f"{path}: {os.strerror(code)}; free some space and run the command again: nothing stored was lost."
        )
    if code in _FORBIDDEN:
        return StorageError(f"{path}: {os.strerror(code)}; make the folder writable, or choose another one.")
    if code in (errno.EEXIST, errno.ENOTDIR):
        return StorageError(f"{path}: {os.strerror(code)}; give the path of a folder.")
    if "commit conflict" in text:
        return CatalogueError(
            f"{path}: another process keeps writing to it; run the command again when that process has finished."
        )
    if isinstance(path, str) and ("Generic" in text or "credential" in text):
        found = (re.search(pattern, text) for pattern in _REASONS)
        reason = next((match[1].rstrip(".") for match in found if match), " ".join(text.split())[:120])
        return StorageError(
            f"{path}: the object storage cannot be used ({reason}); check the address, the network, and "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL."
        )
    reason = text.partition(", /")[0].removeprefix("lance error: ")[:200]
    return StorageError(f"{path} is damaged or cannot be read ({reason}); restore the gallery from a copy.")
