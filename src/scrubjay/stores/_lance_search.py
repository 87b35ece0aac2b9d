"""Nearest neighbours in a table too large to be kept in memory: by its index, or by a scan that passes through it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scrubjay.stores import Item
from scrubjay.stores._exact import nearest
from scrubjay.stores._lance_rows import ITEMS, TEXT, array, having, is_current, item
from scrubjay.stores._lance_table import Table

Answer = list[tuple[Item, float]]
Found = list[list[tuple[str, float]]]

MOST_BY_INDEX = 1024  # rows asked of the index for a query; where that does not do, a scan is cheaper
SPARE = 8  # rows beyond the k-th: some may not count any more, and one must be farther than the k-th
_COORDINATES = 1 << 25  # of a block in memory: 128 MB of float32
_FEW = 4096  # vectors that are read by their ids, and not by passing through all
_IDS = 1024  # in one statement


@dataclass(frozen=True, slots=True)
class Filters:
    """What a search may find.

    Attributes:
        labels: one of these; None for any.
        where: metadata, all of these.
        without: spaces in which an item has no vector that counts.
    """

    labels: Sequence[str] | None
    where: Mapping[str, Any]
    without: Sequence[Table]

    @property
    def columns(self) -> list[str]:
        """What they look at."""
        return ["id", "content_hash", *(["label"] if self.labels is not None else []), *["metadata"] * bool(self.where)]

    def passing(self, items: pa.Table, all_of_them: bool) -> pa.Table:
        """The items that pass.

        Args:
            items: with `columns`.
            all_of_them: that there are: the other spaces are read whole, and not by id.
        """
        if self.labels is not None:
            items = items.filter(pc.is_in(items["label"], value_set=pa.array(self.labels, TEXT)))
        items = items.filter(pa.array(having(items["metadata"], self.where))) if self.where else items
        for other in self.without:
            ids = None if all_of_them else items["id"].to_pylist()
            if ids is None or ids:
                items = items.filter(pa.array(~is_current(items, other.read(["id", "content_hash"], ids))))
        return items


def by_index(
    items: Table, table: Table, queries: NDArray[np.float32], k: int, filters: Filters, probes: int
) -> list[Answer | None]:
    """The k nearest items of each query as the index finds them; None where it does not find k that pass.

    Whatever does not count or does not pass is left out after the search, so more is asked for until enough is left;
    twice the rows are looked for in twice the partitions.

    Args:
        items: the items.
        table: the vectors of the space.
        queries: float32 (Q, d), unit rows.
        k: at least 1.
        filters: what may be found.
        probes: partitions to look into.
    """
    answers: list[Answer | None] = [None] * len(queries)
    pending, limit = list(range(len(queries))), k + SPARE
    while pending and limit <= max(MOST_BY_INDEX, k + SPARE) and k <= MOST_BY_INDEX:
        size = max(1, _COORDINATES // (4 * limit * queries.shape[1]))
        for block in _batches(pending, size):
            found = table.neighbours(queries[block], limit, probes)
            for row, answer in zip(block, _ranked(items, found, queries[block], k, filters), strict=True):
                answers[row] = answer
        pending = [row for row in pending if answers[row] is None]
        limit, probes = 2 * limit, 2 * probes
    return answers


def _ranked(
    items: Table, found: Sequence[pa.Table], queries: NDArray[np.float32], k: int, filters: Filters
) -> Iterator[Answer | None]:
    """Of each query's rows the k best whose items pass; None where too few do, or more may tie with the last."""
    ids = pc.unique(pa.chunked_array([chunk for rows in found for chunk in rows["id"].chunks], TEXT))
    passing = filters.passing(_read(items, ITEMS.names, ids.to_pylist()), all_of_them=False)
    margin = 2 * queries.shape[1] * float(np.finfo(np.float32).eps)  # as in scrubjay.stores._exact.nearest
    for rows, query in zip(found, queries, strict=True):
        ordered = rows.sort_by("id")
        vectors = array(ordered)
        counts = is_current(ordered, passing)
        ((best, scores),) = nearest(vectors[counts], query[None], k)
        last = min(vectors @ query, default=1.0)
        if len(best) < k or not last < scores[-1] - margin:
            yield None
            continue
        taken = ordered["id"].filter(pa.array(counts)).take(pa.array(best))
        hits = passing.take(pc.index_in(taken, value_set=passing["id"])).to_pylist()
        yield list(zip(map(item, hits), scores.tolist(), strict=True))


def by_scan(items: Table, table: Table, queries: NDArray[np.float32], k: int, filters: Filters) -> list[Answer]:
    """The k nearest items of each query among all that pass; see `by_index`. One block of vectors is in memory."""
    passing = filters.passing(items.read(filters.columns), all_of_them=True)
    if len(passing) <= _FEW:
        blocks: Iterable[Any] = [_read(table, ["id", "content_hash", "vector"], passing["id"].to_pylist())]
    else:
        blocks = _whole(table, queries.shape[1])
    found = scan(blocks, queries, k, lambda rows: is_current(rows, passing))
    rows = _read(items, ITEMS.names, list({name for answer in found for name, _ in answer}))
    there = {row["id"]: item(row) for row in rows.to_pylist()}
    return [[(there[name], score) for name, score in answer if name in there] for answer in found]


def nearest_rows(table: Table, queries: NDArray[np.float32], k: int) -> list[list[str]]:
    """Ids of the k nearest rows of each query, whether they count or not."""
    found = scan(_whole(table, queries.shape[1]), queries, k, lambda rows: np.ones(len(rows), dtype=bool))
    return [[name for name, _ in answer] for answer in found]


def scan(
    blocks: Iterable[pa.Table], queries: NDArray[np.float32], k: int, counts: Callable[[pa.Table], NDArray[np.bool_]]
) -> Found:
    """Ids and cosines of the k nearest rows of each query over all blocks, best first; ties in id order."""
    found: Found = [[] for _ in queries]
    for rows in blocks:
        mask = counts(rows)
        ordered = rows.append_column("row", pa.array(np.arange(len(rows)))).select(["id", "row"])
        order = ordered.filter(pa.array(mask)).sort_by("id")
        vectors = array(rows)[order["row"].to_numpy()]
        for query, (best, scores) in enumerate(nearest(vectors, queries, k)):
            names = order["id"].take(pa.array(best)).to_pylist()
            merged = heapq.merge(found[query], zip(names, scores.tolist(), strict=True), key=_rank)
            found[query] = list(islice(merged, k))
    return found


def _rank(hit: tuple[str, float]) -> tuple[float, bytes]:
    name, score = hit
    return -score, name.encode()


def _whole(table: Table, dim: int) -> Iterator[pa.Table]:
    """All rows in blocks that fit into memory."""
    size, kept = max(1, _COORDINATES // dim), []
    for batch in table.blocks(["id", "content_hash", "vector"], size):
        kept.append(batch)
        if sum(map(len, kept)) >= size:  # a batch ends with its fragment, however small
            yield pa.Table.from_batches(kept)
            kept = []
    if kept:
        yield pa.Table.from_batches(kept)


def _read(table: Table, columns: Sequence[str], ids: Sequence[str]) -> pa.Table:
    """These columns of the rows with these ids, any number of them."""
    parts = [table.read(columns, block) for block in _batches(ids, _IDS)]
    return pa.concat_tables(parts) if parts else table.read(columns, [""])


def _batches(values: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
