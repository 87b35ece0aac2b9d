"""LanceDB in a folder (`lancedb:///path`): embedded, crash-safe, many readers and writers at once."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from scrubjay.errors import ConfigError, DataError
from scrubjay.stores import Item, Space, Store, checked, same_space, unknown_space
from scrubjay.stores._exact import nearest
from scrubjay.stores._lance_table import KEY, Database, Table

_TEXT = pa.string()
_ITEMS = pa.schema(
    [
        KEY,
        pa.field("uri", _TEXT, nullable=False),
        pa.field("content_hash", _TEXT, nullable=False),
        pa.field("label", _TEXT),
        pa.field("metadata", _TEXT, nullable=False),
    ]
)
_SPACES = pa.schema(
    [
        KEY,
        pa.field("dim", pa.int32(), nullable=False),
        pa.field("fingerprint", _TEXT, nullable=False),
        pa.field("generation", _TEXT, nullable=False),
        pa.field("table", _TEXT, nullable=False),
    ]
)
_BLOCK = 4096
T = TypeVar("T")


def _embeddings_schema(dim: int) -> pa.Schema:
    vector = pa.field("vector", pa.list_(pa.float32(), dim), nullable=False)
    return pa.schema([KEY, pa.field("content_hash", _TEXT, nullable=False), vector])


class _Snapshot(NamedTuple):
    """The items that have a vector, in id order, and their vectors (N, d)."""

    items: pa.Table
    vectors: NDArray[np.float32]


class LanceStore(Store):
    """Tables: `items`, `spaces`, and one for the vectors of each space, named in its row of `spaces`.

    A search is an exact scan, whatever the size. The vectors and items of a space are kept in memory as they were
    read, 4·N·d bytes and the text, and are read again after a commit of this or another process.
    """

    def __init__(self, url: str) -> None:
        path = url.removeprefix("lancedb://")
        if path == url or not path:
            raise ConfigError(f"{url!r} names no folder; write it as lancedb:///path/of/the/folder.")
        self.folder = Path(path).absolute()
        self._cache: dict[tuple[str, str], tuple[tuple[int, ...], Any]] = {}
        self._opened: dict[str, Table] = {}

    @cached_property
    def _database(self) -> Database:
        return Database(self.folder)

    @cached_property
    def _items(self) -> Table:
        return self._database.make("items", _ITEMS)

    @cached_property
    def _spaces(self) -> Table:
        return self._database.make("spaces", _SPACES)

    def put_items(self, items: Iterable[Item]) -> None:
        rows = {item.id: _row(item) for item in items}
        if rows:
            self._items.put(pa.Table.from_pylist(list(rows.values()), schema=_ITEMS))

    def delete(self, ids: Iterable[str]) -> int:
        ids = set(ids)
        if not ids:
            return 0
        deleted = self._items.delete(ids)  # the commit: from here on no space finds them
        for space in self.spaces():
            self._embeddings(space.id).delete(ids)
        return deleted

    def items(self, ids: Sequence[str] | None = None) -> Iterator[Item]:
        if ids is not None and not ids:
            return
        rows = self._items.read(_ITEMS.names, ids)
        if ids is None:
            rows = rows.sort_by("id")
        else:
            rows = rows.take(pc.index_in(pa.array(ids, _TEXT), value_set=rows["id"]).drop_null())
        for batch in rows.to_batches(_BLOCK):
            yield from map(_item, batch.to_pylist())

    def count(self) -> int:
        return self._items.count()

    def create_space(self, space: Space) -> None:
        # A table of a new name: what an interrupted create or drop left behind can never be taken for this one.
        name = f"{space.id}-{uuid.uuid4().hex[:12]}"
        if space.id not in self._registered():
            self._database.make(name, _embeddings_schema(space.dim))
            row = {**asdict(space), "table": name}
            self._spaces.put(pa.Table.from_pylist([row], schema=_SPACES), replace=False)  # the commit
            if self._registered()[space.id][1] != name:  # another process was first
                self._database.drop(name)
        same_space(space, self._registered()[space.id][0])

    def drop_space(self, space_id: str) -> None:
        if space_id in self._registered():
            _, name = self._registered()[space_id]
            self._spaces.delete([space_id])  # the commit
            self._database.drop(name)
            self._cache = {key: kept for key, kept in self._cache.items() if key[1] != name}

    def spaces(self) -> list[Space]:
        return sorted((space for space, _ in self._registered().values()), key=lambda space: (space.number, space.id))

    def put_embeddings(self, space: Space, ids: Sequence[str], vectors: ArrayLike) -> None:
        table = self._embeddings(space.id, expected=space)
        array = checked(vectors, space)
        if len(ids) != len(array):
            raise DataError(f"{len(ids)} ids for {len(array)} vectors; give one id for each vector.")
        last = {text: row for row, text in enumerate(ids)}
        if not last:
            return
        contents = self._items.read(["id", "content_hash"], last)
        hashes = dict(zip(contents["id"].to_pylist(), contents["content_hash"].to_pylist(), strict=True))
        unknown = [text for text in last if text not in hashes]
        if unknown:
            raise DataError(f"no item {unknown[0]!r} ({len(unknown)} such ids); put the items before their vectors.")
        columns = [list(last), [hashes[text] for text in last], _lists(array[list(last.values())])]
        table.put(pa.table(columns, schema=_embeddings_schema(space.dim)))

    def coverage(self, space: Space) -> tuple[int, int]:
        if space.id not in self._registered():
            return 0, self.count()
        table = self._embeddings(space.id, expected=space)

        def count() -> tuple[int, int]:
            _, _, has = self._matched(table, ["id", "content_hash"], ["id", "content_hash"])
            return int(has.sum()), int((~has).sum())

        return self._current("coverage", (self._items, table), count)

    def missing(self, space_id: str, limit: int | None = None) -> list[str]:
        items, _, has = self._matched(self._embeddings(space_id), ["id", "content_hash"], ["id", "content_hash"])
        return cast(list[str], items["id"].filter(pa.array(~has))[:limit].to_pylist())

    def vectors(self, space_id: str, ids: Sequence[str] | None = None) -> tuple[list[str], NDArray[np.float32]]:
        held = self._snapshot(self._embeddings(space_id))
        if ids is None:
            return held.items["id"].to_pylist(), held.vectors.copy()
        rows = pc.index_in(pa.array(ids, _TEXT), value_set=held.items["id"]).drop_null()
        return held.items["id"].take(rows).to_pylist(), held.vectors[rows.to_numpy()]

    def stored(self, space_id: str) -> Iterator[tuple[list[str], list[str], NDArray[np.float32]]]:
        for batch in self._embeddings(space_id).read(["id", "content_hash", "vector"]).to_batches(_BLOCK):
            if len(batch):
                flat = batch["vector"].flatten().to_numpy(zero_copy_only=False)
                yield batch["id"].to_pylist(), batch["content_hash"].to_pylist(), flat.reshape(len(batch), -1)

    def drop_embeddings(self, space_id: str, ids: Iterable[str]) -> int:
        ids = set(ids)
        return self._embeddings(space_id).delete(ids) if ids else 0

    def maintain(self) -> None:
        for table in (self._items, self._spaces, *(self._embeddings(space.id) for space in self.spaces())):
            table.compact()

    def search(
        self,
        space: Space,
        queries: ArrayLike,
        k: int,
        labels: Sequence[str] | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        without: Sequence[str] = (),
        exact: bool = False,
    ) -> list[list[tuple[Item, float]]]:
        table = self._embeddings(space.id, expected=space)
        array = checked(queries, space)
        items, vectors = self._snapshot(table)
        wanted = np.ones(len(items), dtype=bool)
        if labels is not None:
            wanted &= pc.is_in(items["label"], value_set=pa.array(labels, _TEXT)).to_numpy()
        if where:
            wanted &= np.array([_has(text, where) for text in items["metadata"].to_pylist()], dtype=bool)
        for other in without:
            held = self._snapshot(self._embeddings(other)).items["id"]
            wanted &= ~pc.is_in(items["id"], value_set=held.combine_chunks()).to_numpy(zero_copy_only=False)
        if not wanted.all():
            items, vectors = items.filter(pa.array(wanted)), vectors[wanted]
        answers = []
        for rows, scores in nearest(vectors, array, k):
            found = map(_item, items.take(pa.array(rows)).to_pylist())
            answers.append(list(zip(found, scores.tolist(), strict=True)))
        return answers

    def _snapshot(self, table: Table) -> _Snapshot:
        def load() -> _Snapshot:
            items, rows, has = self._matched(table, _ITEMS.names, ["id", "content_hash", "vector"])
            flat = rows["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            vectors = flat.reshape(-1, rows.schema.field("vector").type.list_size)
            where = pc.index_in(items["id"], value_set=rows["id"]).filter(pa.array(has))
            return _Snapshot(items.filter(pa.array(has)).combine_chunks(), vectors[where.to_numpy()])

        return self._current("snapshot", (self._items, table), load)

    def _matched(
        self, table: Table, item_columns: list[str], columns: list[str]
    ) -> tuple[pa.Table, pa.Table, NDArray[np.bool_]]:
        """Items in id order, rows of the space in no order, and for each item whether its content has a vector.

        The two tables cannot be read at one moment. An item that was deleted meanwhile is left out, since its vector
        may be gone already; one that was added meanwhile comes with the next read.
        """
        before = self._items.version()
        items = self._items.read(item_columns)
        rows = table.read(columns)
        if self._items.version() != before:
            items = items.filter(pc.is_in(items["id"], value_set=self._items.read(["id"])["id"]))
        items = items.sort_by("id")
        embedded = rows["content_hash"].take(pc.index_in(items["id"], value_set=rows["id"]))
        has = pc.fill_null(pc.equal(embedded, items["content_hash"]), False)
        return items, rows, has.to_numpy()

    def _current(self, kind: str, tables: Sequence[Table], build: Callable[[], T]) -> T:
        """What `build` makes of the tables, made again only when one of them has moved on."""
        versions = tuple(table.version() for table in tables)
        key = (kind, tables[-1].path.stem)
        if key not in self._cache or self._cache[key][0] != versions:
            self._cache[key] = versions, build()
        return cast(T, self._cache[key][1])

    def _registered(self) -> dict[str, tuple[Space, str]]:
        """The spaces and the names of their tables, by id."""

        def read() -> dict[str, tuple[Space, str]]:
            rows = self._spaces.read(_SPACES.names).to_pylist()
            return {
                row["id"]: (Space(row["id"], row["dim"], row["fingerprint"], row["generation"]), row["table"])
                for row in rows
            }

        return self._current("spaces", [self._spaces], read)

    def _embeddings(self, space_id: str, expected: Space | None = None) -> Table:
        registered = self._registered()
        if space_id not in registered:
            raise unknown_space(space_id, (space for space, _ in registered.values()))
        space, name = registered[space_id]
        same_space(expected or space, space)
        if name not in self._opened:
            self._opened[name] = self._database.open(name)
        return self._opened[name]


def _has(metadata: str, where: Mapping[str, Any]) -> bool:
    values = json.loads(metadata)
    return all(key in values and values[key] == value for key, value in where.items())


def _row(item: Item) -> dict[str, Any]:
    row = {name: getattr(item, name) for name in Item.__slots__}
    return {**row, "metadata": json.dumps(dict(item.metadata), sort_keys=True, allow_nan=False)}


def _item(row: dict[str, Any]) -> Item:
    return Item(**{**row, "metadata": json.loads(row["metadata"])})


def _lists(vectors: NDArray[np.float32]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
