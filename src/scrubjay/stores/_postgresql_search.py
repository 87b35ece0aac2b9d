"""Nearest neighbours in SQL: by the index, by a scan on the server, or by fetching all vectors in blocks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrubjay.stores import Item
from scrubjay.stores._exact import nearest
from scrubjay.stores._filters import valid_unicode
from scrubjay.stores._postgresql_server import Connection, sql
from scrubjay.stores._postgresql_vectors import decoded, page, written
from scrubjay.stores._ranking import SPARE, ranked, settled

FETCH_FROM = 32  # number of queries from which fetching all vectors once is cheaper than a scan on the server for each
_MOST_BY_INDEX = 200  # largest k answered by the index; for more, the index visits a large part of the vectors anyway
_WIDER = 4  # factor of rows requested from the index, whose filtered results come in approximate order only

Answer = list[tuple[Item, float]]
_Row = tuple[Any, ...]

_COLUMNS = sql.SQL("i.id, i.uri, i.content_hash, i.label, i.metadata")
# The comparison of hashes is wrapped in coalesce: with a plain join condition the planner multiplies its selectivity
# by that of the ids, expects a single row, and sorts all rows instead of using the index.
_JOINED = sql.SQL("from {table} e join items i on i.id = e.id and coalesce(i.content_hash = e.content_hash, false)")
# `+ 0` keeps the planner from using the vector index for this order; indices on ids or labels may still be used. Other
# columns are fetched for the best rows only.
_SCAN = """
select {columns}, vector_send(e.vector), best.distance from (
    select e.id, e.vector <#> %(query)s::vector as distance {rows}
    order by (e.vector <#> %(query)s::vector) + 0 limit %(limit)s
) best join items i using (id) join {table} e using (id) order by best.distance
"""


@dataclass(frozen=True, slots=True)
class Passing:
    """The current vectors of a space that pass the filters, as an SQL clause.

    Attributes:
        table: table of the space's vectors, `e` in the clause.
        clause: "from … where …".
        parameters: parameters of the clause by name.
        filtered: whether the clause has filters.
    """

    table: sql.Identifier
    clause: sql.Composed
    parameters: dict[str, Any]
    filtered: bool


def passing(
    table: sql.Identifier,
    labels: Sequence[str] | None,
    where: Mapping[str, Any],
    without: Sequence[sql.Identifier],
) -> Passing:
    """The rows of a space's `table` that pass the filters of a search."""
    composed, parameters = _conditions(labels, where)
    for other in without:
        has = "not exists (select from {other} o where o.id = i.id and o.content_hash = i.content_hash)"
        composed.append(sql.SQL(has).format(other=other))
    clause = _JOINED.format(table=table) + sql.SQL(" where ") + sql.SQL(" and ").join(composed)
    return Passing(table, clause, parameters, filtered=len(composed) > 1)


def page_of_items(
    connection: Connection, limit: int, after: str | None, labels: Sequence[str] | None, where: Mapping[str, Any]
) -> list[Item]:
    """See `Store.page`."""
    composed, parameters = _conditions(labels, where)
    if after is not None:
        parameters["after"] = after
        composed.append(sql.SQL("i.id > %(after)s"))
    text = sql.SQL("select {columns} from items i where {where} order by i.id limit %(limit)s")
    query = text.format(columns=_COLUMNS, where=sql.SQL(" and ").join(composed))
    return [Item(*row) for row in connection.execute(query, {**parameters, "limit": limit})]


def _conditions(labels: Sequence[str] | None, where: Mapping[str, Any]) -> tuple[list[sql.Composable], dict[str, Any]]:
    """Conditions on an item `i`, and their parameters by name."""
    composed: list[sql.Composable] = [sql.SQL("true")]
    parameters: dict[str, Any] = {}
    if labels is not None:
        composed.append(sql.SQL("i.label = any(%(labels)s)"))
        parameters["labels"] = storable(labels)
    texts = [str(text) for pair in where.items() for text in pair]
    if storable(texts) != texts:
        composed.append(sql.SQL("false"))  # no item can have such a text, and the server would refuse it
    elif where:
        composed.append(sql.SQL("i.metadata::jsonb @> %(where)s::jsonb"))
        parameters["where"] = json.dumps(where)
    return composed, parameters


def storable(texts: Iterable[str]) -> list[str]:
    """The texts that PostgreSQL can store: valid Unicode without NUL."""
    return [text for text in valid_unicode(texts) if "\0" not in text]


def by_index(connection: Connection, rows: Passing, query: NDArray[np.float32], k: int) -> Answer | None:
    """The results of the HNSW index, re-ranked; None if there are fewer than k, so that a scan is needed."""
    if k > _MOST_BY_INDEX:
        return None
    connection.execute(f"set local hnsw.ef_search = {800 if rows.filtered else max(100, 4 * k)}")
    connection.execute("set local hnsw.iterative_scan = relaxed_order")
    order = "select {columns}, vector_send(e.vector) {rows} order by e.vector <#> %(query)s::vector limit %(limit)s"
    text = sql.SQL(order).format(columns=_COLUMNS, rows=rows.clause)
    parameters = {**rows.parameters, "query": written(query), "limit": _WIDER * k}
    candidates = connection.execute(text, parameters).fetchall()
    return _ranked(candidates, query, k) if len(candidates) >= k else None


def by_scan(connection: Connection, rows: Passing, query: NDArray[np.float32], k: int) -> Answer:
    """The exact k nearest: the server scans, and returns all rows that may be among them in spite of its rounding."""
    text = sql.SQL(_SCAN).format(columns=_COLUMNS, rows=rows.clause, table=rows.table)
    limit = k + SPARE
    while True:
        candidates = connection.execute(text, {**rows.parameters, "query": written(query), "limit": limit}).fetchall()
        if settled([-row[-1] for row in candidates], k, limit, len(query)):
            return _ranked([row[:-1] for row in candidates], query, k)
        limit *= 2


def _ranked(rows: Sequence[_Row], query: NDArray[np.float32], k: int) -> Answer:
    items = [Item(*row[:-1]) for row in rows]
    return ranked(items, decoded([row[-1] for row in rows], len(query)), query, k)


def by_fetching(connection: Connection, rows: Passing, queries: NDArray[np.float32], k: int) -> list[Answer]:
    """The exact k nearest of many queries: every vector is fetched once, in blocks."""
    best = [(np.empty(0), list[str]()) for _ in queries]
    for ids, vectors in _blocks(connection, rows, queries.shape[1]):
        for number, (places, scores) in enumerate(nearest(vectors, queries, k)):
            best[number] = _merged(best[number], (scores, [ids[place] for place in places]), k)
    ids_found = sorted({name for _, names in best for name in names})
    items = {item.id: item for item in items_of(connection, ids_found)}
    return [
        [(items[name], score) for score, name in zip(scores.tolist(), names, strict=True)] for scores, names in best
    ]


def _merged(
    before: tuple[NDArray[np.float64], list[str]], block: tuple[NDArray[np.float64], list[str]], k: int
) -> tuple[NDArray[np.float64], list[str]]:
    """The k best of both; of equal scores earlier ones come first, since blocks are in id order."""
    scores, names = np.concatenate([before[0], block[0]]), before[1] + block[1]
    order = np.argsort(-scores, kind="stable")[:k]
    return scores[order], [names[place] for place in order]


def _blocks(connection: Connection, rows: Passing, dim: int) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    order = "select i.id, vector_send(e.vector) {rows} and i.id > %(after)s order by i.id limit %(block)s"
    text = sql.SQL(order).format(rows=rows.clause)
    after = ""
    while fetched := connection.execute(text, {**rows.parameters, "after": after, "block": page(dim)}).fetchall():
        ids = [row[0] for row in fetched]
        yield ids, decoded([row[1] for row in fetched], dim)
        after = ids[-1]


def items_of(connection: Connection, ids: Sequence[str]) -> list[Item]:
    """The items of these ids that exist, in id order."""
    text = sql.SQL("select {columns} from items i where i.id = any(%s) order by i.id").format(columns=_COLUMNS)
    return [Item(*row) for row in connection.execute(text, [list(ids)])]
