"""Nearest neighbours in a table too large to hold in memory: by its index, or by a full scan in blocks."""

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
Neighbours = list[list[tuple[str, float]]]

MOST_BY_INDEX = 1024  # most rows requested from the index for a query; beyond that a scan is cheaper
SPARE = 8  # rows requested beyond the k-th: some may not be current, and one must score lower than the k-th
_COORDINATES = 1 << 25  # coordinates of a block in memory: 128 MB of float32
_FEW = 4096  # up to this number vectors are read by id instead of scanning all
_IDS = 1024  # ids in one statement


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of a search.

    Attributes:
        labels: an item must have one of these labels; None for any.
        where: an item must have all of these metadata.
        without: tables of spaces in which an item must not have a current vector.
    """

    labels: Sequence[str] | None
    where: Mapping[str, Any]
    without: Sequence[Table]

    @property
    def columns(self) -> list[str]:
        """Columns of the items that the filters need."""
        columns = ["id", "content_hash"]
        if self.labels is not None:
            columns.append("label")
        if self.where:
            columns.append("metadata")
        return columns

    def passing(self, items: pa.Table, whole_table: bool) -> pa.Table:
        """The items that pass the filters.

        Args:
            items: a table with at least `columns`.
            whole_table: whether these are all items of the gallery; then other spaces are read as a whole, not by id.
        """
        if self.labels is not None:
            items = items.filter(pc.is_in(items["label"], value_set=pa.array(self.labels, TEXT)))
        if self.where:
            items = items.filter(pa.array(having(items["metadata"], self.where)))
        for other in self.without:
            ids = None if whole_table else items["id"].to_pylist()
            if ids is None or ids:
                items = items.filter(pa.array(~is_current(items, other.read(["id", "content_hash"], ids))))
        return items


def by_index(
    items: Table, table: Table, queries: NDArray[np.float32], k: int, filters: Filters, probes: int
) -> list[Answer | None]:
    """The k nearest items of each query by the index; None for a query where it does not find k that pass.

    Filters are applied after the index search (post-filtering), so the number of requested rows, and with it that of
    probed partitions, is doubled until enough rows remain.

    Args:
        items: the table of items.
        table: the table of the space's vectors.
        queries: float32 (Q, d), unit rows.
        k: at least 1.
        filters: filters of the search.
        probes: number of partitions to probe first.
    """
    answers: list[Answer | None] = [None] * len(queries)
    pending, limit = list(range(len(queries))), k + SPARE
    while pending and limit <= max(MOST_BY_INDEX, k + SPARE) and k <= MOST_BY_INDEX:
        size = max(1, _COORDINATES // (4 * limit * queries.shape[1]))
        for block in _batches(pending, size):
            candidates = table.neighbours(queries[block], limit, probes)
            for row, answer in zip(block, _ranked(items, candidates, queries[block], k, filters), strict=True):
                answers[row] = answer
        pending = [row for row in pending if answers[row] is None]
        limit, probes = 2 * limit, 2 * probes
    return answers


def _ranked(
    items: Table, candidates: Sequence[pa.Table], queries: NDArray[np.float32], k: int, filters: Filters
) -> Iterator[Answer | None]:
    """The k best candidates of each query that pass; None if too few pass, or if others may tie with the k-th."""
    ids = pc.unique(pa.chunked_array([chunk for rows in candidates for chunk in rows["id"].chunks], TEXT))
    passing = filters.passing(_read(items, ITEMS.names, ids.to_pylist()), whole_table=False)
    margin = 2 * queries.shape[1] * float(np.finfo(np.float32).eps)  # as in scrubjay.stores._exact.nearest
    for rows, query in zip(candidates, queries, strict=True):
        ordered = rows.sort_by("id")
        vectors = array(ordered)
        mask = is_current(ordered, passing)
        ((best, scores),) = nearest(vectors[mask], query[None], k)
        lowest = min(vectors @ query, default=1.0)
        if len(best) < k or not lowest < scores[-1] - margin:
            yield None
            continue
        taken = ordered["id"].filter(pa.array(mask)).take(pa.array(best))
        hits = passing.take(pc.index_in(taken, value_set=passing["id"])).to_pylist()
        yield list(zip(map(item, hits), scores.tolist(), strict=True))


def by_scan(items: Table, table: Table, queries: NDArray[np.float32], k: int, filters: Filters) -> list[Answer]:
    """The k nearest items of each query among all that pass, exactly, with one block of vectors in memory at a time.

    The arguments are those of `by_index`.
    """
    passing = filters.passing(items.read(filters.columns), whole_table=True)
    if len(passing) <= _FEW:
        blocks: Iterable[Any] = [_read(table, ["id", "content_hash", "vector"], passing["id"].to_pylist())]
    else:
        blocks = _whole(table, queries.shape[1])
    nearest_ids = scan(blocks, queries, k, lambda rows: is_current(rows, passing))
    rows = _read(items, ITEMS.names, list({name for answer in nearest_ids for name, _ in answer}))
    by_id = {row["id"]: item(row) for row in rows.to_pylist()}
    return [[(by_id[name], score) for name, score in answer if name in by_id] for answer in nearest_ids]


def nearest_rows(table: Table, queries: NDArray[np.float32], k: int) -> list[list[str]]:
    """Ids of the k nearest rows of each query, whether these are current or not."""
    neighbours = scan(_whole(table, queries.shape[1]), queries, k, lambda rows: np.ones(len(rows), dtype=bool))
    return [[name for name, _ in answer] for answer in neighbours]


def scan(
    blocks: Iterable[pa.Table], queries: NDArray[np.float32], k: int, select: Callable[[pa.Table], NDArray[np.bool_]]
) -> Neighbours:
    """Ids and cosines of the k nearest rows of each query over all blocks, best first; ties in id order.

    Args:
        blocks: rows with the columns id and vector.
        queries: float32 (Q, d), unit rows.
        k: at least 1.
        select: gives the mask (N,) of the rows of a block that are searched.
    """
    neighbours: Neighbours = [[] for _ in queries]
    for rows in blocks:
        mask = select(rows)
        ordered = rows.append_column("row", pa.array(np.arange(len(rows)))).select(["id", "row"])
        order = ordered.filter(pa.array(mask)).sort_by("id")
        vectors = array(rows)[order["row"].to_numpy()]
        for query, (best, scores) in enumerate(nearest(vectors, queries, k)):
            names = order["id"].take(pa.array(best)).to_pylist()
            merged = heapq.merge(neighbours[query], zip(names, scores.tolist(), strict=True), key=_rank)
            neighbours[query] = list(islice(merged, k))
    return neighbours


def _rank(hit: tuple[str, float]) -> tuple[float, bytes]:
    name, score = hit
    return -score, name.encode()


def _whole(table: Table, dim: int) -> Iterator[pa.Table]:
    """All rows in blocks that fit into memory."""
    size, pending = max(1, _COORDINATES // dim), []
    for batch in table.blocks(["id", "content_hash", "vector"], size):
        pending.append(batch)
        if sum(map(len, pending)) >= size:  # a batch never spans two fragments, so it may be small
            yield pa.Table.from_batches(pending)
            pending = []
    if pending:
        yield pa.Table.from_batches(pending)


def _read(table: Table, columns: Sequence[str], ids: Sequence[str]) -> pa.Table:
    """These columns of the rows with these ids; there may be any number of ids."""
    parts = [table.read(columns, block) for block in _batches(ids, _IDS)]
    return pa.concat_tables(parts) if parts else table.read(columns, [""])


def _batches(values: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
