"""LanceDB in a folder (`lancedb:///path`) or in object storage (`lancedb://s3://bucket/path`): an embedded store.

It is safe against crashes, and made for many concurrent readers and writers. Credentials, region and endpoint of object
storage come from the environment, as for other programs (AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL and so on).
"""

from __future__ import annotations

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
from scrubjay.stores import _lance_index as index
from scrubjay.stores import _lance_rows as rows_
from scrubjay.stores._exact import nearest
from scrubjay.stores._filters import checked_after, checked_filter, valid_unicode
from scrubjay.stores._lance_features import LanceFeatures
from scrubjay.stores._lance_page import page_of_items
from scrubjay.stores._lance_rows import BLOCK, ITEMS, KEYS, SPACES, TEXT, is_current
from scrubjay.stores._lance_search import Answer, Filters, by_index, by_scan
from scrubjay.stores._lance_table import Database, Table

T = TypeVar("T")


class _Snapshot(NamedTuple):
    """The items with a current vector, in id order, and their vectors (N, d)."""

    items: pa.Table
    vectors: NDArray[np.float32]


class LanceStore(Store):
    """Tables `items` and `spaces`, and for each space a table of vectors, which its row in `spaces` names.

    Trunk features are in tables of their own: see `scrubjay.stores._lance_features`.

    A search of a small space is an exact scan: its vectors and items are held in memory, 4·N·d bytes and the text, and
    are read again after a commit of this or another process. A space of more than 50,000 vectors stays on disk:
    `maintain` builds an index, whose results are re-ranked by exact cosines; without an index, and where filters leave
    too few of its results, every vector is read, one block at a time.
    """

    def __init__(self, url: str) -> None:
        path = url.removeprefix("lancedb://")
        if path == url or not path:
            raise ConfigError(f"{url!r} names no folder; write the address as lancedb:///path/of/the/folder.")
        self.place = path if "://" in path else Path(path).absolute()
        self._cache: dict[tuple[str, str], tuple[tuple[int, ...], Any]] = {}
        self._opened: dict[str, Table] = {}

    @cached_property
    def _database(self) -> Database:
        return Database(self.place)

    @cached_property
    def _items(self) -> Table:
        return self._database.make("items", ITEMS)

    @cached_property
    def _spaces(self) -> Table:
        return self._database.make("spaces", SPACES)

    @cached_property
    def features(self) -> LanceFeatures:
        return LanceFeatures(self._database, self._items)

    def put_items(self, items: Iterable[Item]) -> None:
        rows = {item.id: rows_.row(item) for item in items}
        if rows:
            self._items.put(pa.Table.from_pylist(list(rows.values()), schema=ITEMS))

    def delete(self, ids: Iterable[str]) -> int:
        ids = set(valid_unicode(ids))
        if not ids:
            return 0
        deleted = self._items.delete(ids)  # the commit: from here on their vectors are not current in any space
        for space in self.spaces():
            self._embeddings(space.id).delete(ids)
        self.features.delete(ids)
        return deleted

    def items(self, ids: Sequence[str] | None = None) -> Iterator[Item]:
        ids = None if ids is None else valid_unicode(ids)
        if ids is not None and not ids:
            return
        rows = self._items.read(ITEMS.names, ids)
        if ids is None:
            rows = rows.sort_by("id")
        else:
            rows = rows.take(pc.index_in(pa.array(ids, TEXT), value_set=rows["id"]).drop_null())
        for batch in rows.to_batches(BLOCK):
            yield from map(rows_.item, batch.to_pylist())

    def page(
        self,
        limit: int,
        after: str | None = None,
        labels: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Item]:
        return page_of_items(self._items, limit, checked_after(after), labels, checked_filter(where))

    def labels(self) -> tuple[list[str], list[str | None]]:
        rows = self._items.read(["id", "label"]).sort_by("id")
        return rows["id"].to_pylist(), rows["label"].to_pylist()

    def count(self) -> int:
        return self._items.count()

    def create_space(self, space: Space) -> None:
        # A new name, so that a table left behind by an interrupted create or drop is never mistaken for this one.
        name = f"{space.id}-{uuid.uuid4().hex[:12]}"
        if space.id not in self._registered():
            self._database.make(name, rows_.embeddings(space.dim))
            row = {**asdict(space), "table": name}
            self._spaces.put(pa.Table.from_pylist([row], schema=SPACES), replace=False)  # the commit
            if self._registered()[space.id][1] != name:  # another process has registered the space meanwhile
                self._database.drop(name)
        same_space(space, self._registered()[space.id][0])

    def drop_space(self, space_id: str) -> None:
        if space_id in self._registered():
            _, name = self._registered()[space_id]
            self._spaces.delete([space_id])  # the commit
            self._database.drop(name)
            self._cache = {key: cached for key, cached in self._cache.items() if key[1] != name}

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
        hashes = rows_.content_hashes(self._items, last)
        unknown = [text for text in last if text not in hashes]
        if unknown:
            raise DataError(f"no item {unknown[0]!r} ({len(unknown)} such ids); put the items before their vectors.")
        columns = [list(last), [hashes[text] for text in last], rows_.lists(array[list(last.values())])]
        table.put(pa.table(columns, schema=rows_.embeddings(space.dim)))

    def coverage(self, space: Space) -> tuple[int, int]:
        if space.id not in self._registered():
            return 0, self.count()
        table = self._embeddings(space.id, expected=space)

        def count() -> tuple[int, int]:
            _, _, has = self._matched(table, KEYS, KEYS)
            return int(has.sum()), int((~has).sum())

        return self._current("coverage", (self._items, table), count)

    def missing(self, space_id: str, limit: int | None = None) -> list[str]:
        items, _, has = self._matched(self._embeddings(space_id), KEYS, KEYS)
        return cast(list[str], items.filter(pa.array(~has)).sort_by("id")["id"][:limit].to_pylist())

    def vectors(self, space_id: str, ids: Sequence[str] | None = None) -> tuple[list[str], NDArray[np.float32]]:
        table = self._embeddings(space_id)
        if table.count() > index.EXACT_ROWS:
            return rows_.current_rows(self._items, table, None if ids is None else valid_unicode(ids))
        held = self._snapshot(table)
        if ids is None:
            return held.items["id"].to_pylist(), held.vectors.copy()
        rows = pc.index_in(pa.array(valid_unicode(ids), TEXT), value_set=held.items["id"]).drop_null()
        return held.items["id"].take(rows).to_pylist(), held.vectors[rows.to_numpy()]

    def stored(self, space_id: str) -> Iterator[tuple[list[str], list[str], NDArray[np.float32]]]:
        for batch in self._embeddings(space_id).blocks([*KEYS, "vector"], BLOCK):
            if len(batch):
                yield batch["id"].to_pylist(), batch["content_hash"].to_pylist(), rows_.array(batch)

    def drop_embeddings(self, space_id: str, ids: Iterable[str]) -> int:
        table, ids = self._embeddings(space_id), set(valid_unicode(ids))
        return table.delete(ids) if ids else 0

    def maintain(self) -> None:
        spaces = [self._embeddings(space.id) for space in self.spaces()]
        for table in spaces:
            rows_.drop_stale(self._items, table)
        for table in (self._items, self._spaces, *spaces):
            table.compact()
        for table in spaces:
            index.refresh(table)
        if self._items.count() > index.EXACT_ROWS:
            self._items.index_ids()
        self.features.maintain()

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
        array, others = checked(queries, space), [self._embeddings(other) for other in without]
        filters = Filters(None if labels is None else valid_unicode(labels), checked_filter(where), others)
        if table.count() <= index.EXACT_ROWS:
            return self._in_memory(table, array, k, filters)
        measured = None if exact else index.read_index(table)
        answers: list[Answer | None] = [None] * len(array)
        if measured is not None:
            answers = by_index(self._items, table, array, k, filters, measured.probes_for(k))
        remaining = [row for row, answer in enumerate(answers) if answer is None]
        scanned = iter(by_scan(self._items, table, array[remaining], k, filters) if remaining else [])
        return [next(scanned) if answer is None else answer for answer in answers]

    def _in_memory(self, table: Table, queries: NDArray[np.float32], k: int, filters: Filters) -> list[Answer]:
        items, vectors = self._snapshot(table)
        if filters.columns != KEYS or filters.without:
            passing = filters.passing(items, whole_table=True)
            rows = pc.index_in(passing["id"], value_set=items["id"]).to_numpy()
            items, vectors = passing.combine_chunks(), vectors[rows]
        answers = []
        for rows, scores in nearest(vectors, queries, k):
            nearest_items = map(rows_.item, items.take(pa.array(rows)).to_pylist())
            answers.append(list(zip(nearest_items, scores.tolist(), strict=True)))
        return answers

    def _snapshot(self, table: Table) -> _Snapshot:
        def load() -> _Snapshot:
            items, rows, has = self._matched(table, ITEMS.names, [*KEYS, "vector"])
            embedded = items.filter(pa.array(has)).sort_by("id").combine_chunks()
            order = pc.index_in(embedded["id"], value_set=rows["id"]).to_numpy()
            return _Snapshot(embedded, rows_.array(rows)[order])

        return self._current("snapshot", (self._items, table), load)

    def _matched(
        self, table: Table, item_columns: list[str], columns: list[str]
    ) -> tuple[pa.Table, pa.Table, NDArray[np.bool_]]:
        """Items and rows of the space, in no particular order, and for each item whether it has a current vector.

        The two tables cannot be read in one transaction. An item that was deleted between the reads is left out, since
        its vector may be deleted already; one that was added between them is part of the next read.
        """
        before = self._items.version()
        items = self._items.read(item_columns)
        rows = table.read(columns)
        if self._items.version() != before:
            items = items.filter(pc.is_in(items["id"], value_set=self._items.read(["id"])["id"]))
        return items, rows, is_current(items, rows)

    def _current(self, kind: str, tables: Sequence[Table], build: Callable[[], T]) -> T:
        """The result of `build`, which is cached until one of the tables has a new version."""
        versions = tuple(table.version() for table in tables)
        key = (kind, tables[-1].name)
        if key not in self._cache or self._cache[key][0] != versions:
            self._cache[key] = versions, build()
        return cast(T, self._cache[key][1])

    def _registered(self) -> dict[str, tuple[Space, str]]:
        """By id, each space and the name of its table."""

        def read() -> dict[str, tuple[Space, str]]:
            rows = self._spaces.read(SPACES.names).to_pylist()
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
