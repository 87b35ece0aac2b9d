"""PostgreSQL with pgvector (`postgresql://user@host/database?schema=shop`): a server with transactional writes.

Requires `pip install 'scrubjay[postgresql]'` and, on the server, pgvector 0.8 or newer. All options of the address
except `schema` (default: scrubjay) are libpq's; passwords are better kept in `~/.pgpass`. A connection pooler must use
session pooling, since the search path is set once per connection.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrubjay.errors import ConfigError, DataError
from scrubjay.stores import Item, Space, Store, checked, same_space, unknown_space
from scrubjay.stores import _postgresql_search as searching
from scrubjay.stores import _postgresql_statements as statements
from scrubjay.stores._filters import checked_after, checked_filter
from scrubjay.stores._postgresql_features import PostgresFeatures
from scrubjay.stores._postgresql_rows import delete, lock_items
from scrubjay.stores._postgresql_search import storable
from scrubjay.stores._postgresql_server import Connection, Server, address, sql
from scrubjay.stores._postgresql_vectors import decoded, encoded, page

INDEX_FROM = 20_000  # smallest number of vectors that is indexed; a scan of fewer takes some milliseconds
_MOST_INDEXED = 2000  # largest dimension of pgvector's HNSW index
_MOST_STORED = 16_000  # largest dimension of pgvector's vectors
_BLOCK = 4096  # items in a page


class _Held(NamedTuple):
    """A registered space with its table, the name of its index, and whether that index is valid."""

    space: Space
    table: sql.Identifier
    hnsw: str
    indexed: bool


class PostgresStore(Store):
    """Tables `items` and `spaces`, and `vectors_<number>` for each space; features: `_postgresql_features`.

    Below `INDEX_FROM` vectors a search is an exact scan. `maintain` builds an HNSW index for larger spaces; its results
    are re-ranked by exact cosines, and where it finds too few under a filter, the query is answered by a scan.
    """

    def __init__(self, url: str) -> None:
        self.address = address(url)

    @cached_property
    def _server(self) -> Server:
        return Server(self.address)

    @cached_property
    def features(self) -> PostgresFeatures:
        return PostgresFeatures(self._server)

    def put_items(self, items: Iterable[Item]) -> None:
        with self._server.transaction() as connection:
            connection.execute(statements.INCOMING_ITEMS)
            with connection.cursor() as cursor, cursor.copy(statements.COPY_ITEMS) as copy:
                for number, item in enumerate(items):
                    copy.write_row((number, item.id, item.uri, item.content_hash, item.label, _metadata(item)))
            connection.execute(statements.MERGE_ITEMS)

    def delete(self, ids: Iterable[str]) -> int:
        with self._server.transaction() as connection:
            known = storable(ids)
            deleted = delete(connection, sql.Identifier("items"), known)
            for held in _registered(connection).values():  # the items are locked: no space can receive new vectors
                delete(connection, held.table, known)
            self.features.delete(connection, known)
        return deleted

    def items(self, ids: Sequence[str] | None = None) -> Iterator[Item]:
        if ids is None:
            yield from self._all_items()
            return
        for start in range(0, len(ids), _BLOCK):
            block = ids[start : start + _BLOCK]
            with self._server.transaction() as connection:
                by_id = {item.id: item for item in searching.items_of(connection, storable(block))}
            yield from (by_id[name] for name in block if name in by_id)

    def _all_items(self) -> Iterator[Item]:
        after = ""
        while True:  # one transaction per page: a slow consumer must not hold back the server's vacuum
            with self._server.transaction() as connection:
                page = [Item(*row) for row in connection.execute(statements.PAGE_OF_ITEMS, [after, _BLOCK])]
            if not page:
                return
            yield from page
            after = page[-1].id

    def page(
        self,
        limit: int,
        after: str | None = None,
        labels: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Item]:
        with self._server.transaction() as connection:
            return searching.page_of_items(connection, limit, checked_after(after), labels, checked_filter(where))

    def labels(self) -> tuple[list[str], list[str | None]]:
        with self._server.transaction() as connection:
            rows = connection.execute("select id, label from items order by id").fetchall()
        return [row[0] for row in rows], [row[1] for row in rows]

    def count(self) -> int:
        with self._server.transaction() as connection:
            return _number(connection, "select count(*) from items")

    def create_space(self, space: Space) -> None:
        if space.dim > _MOST_STORED:
            raise ConfigError(f"space {space.id!r}: dim = {space.dim}; pgvector's maximum is {_MOST_STORED}.")
        row = [space.id, space.dim, space.fingerprint, space.generation]
        with self._server.transaction() as connection:
            if connection.execute(statements.REGISTER, row).fetchone():
                held = _registered(connection)[space.id]
                text = (
                    'create table {} (id text collate "C" primary key, content_hash text not null, vector vector({}))'
                )
                connection.execute(sql.SQL(text).format(held.table, sql.Literal(space.dim)))
                if space.dim <= _MOST_INDEXED // 2:  # fits a page of 8 kB: scans are faster with vectors in the row
                    text = "alter table {} alter column vector set storage plain"
                    connection.execute(sql.SQL(text).format(held.table))
            same_space(space, _registered(connection)[space.id].space)

    def drop_space(self, space_id: str) -> None:
        with self._server.transaction() as connection:
            held = _registered(connection).get(space_id)
            if held and connection.execute("delete from spaces where id = %s", [space_id]).rowcount:
                connection.execute(sql.SQL("drop table {}").format(held.table))

    def spaces(self) -> list[Space]:
        with self._server.transaction() as connection:
            spaces = [held.space for held in _registered(connection).values()]
        return sorted(spaces, key=lambda space: (space.number, space.id))

    def put_embeddings(self, space: Space, ids: Sequence[str], vectors: ArrayLike) -> None:
        with self._server.transaction() as connection:
            held = _held(connection, space.id, expected=space)
            array = checked(vectors, space)
            if len(ids) != len(array):
                raise DataError(f"{len(ids)} ids for {len(array)} vectors; give one id for each vector.")
            last = {name: row for row, name in enumerate(ids)}
            lock_items(connection, last)
            connection.execute(sql.SQL(statements.INCOMING_VECTORS).format(sql.Literal(space.dim)))
            with connection.cursor() as cursor, cursor.copy(statements.COPY_VECTORS) as copy:
                copy.set_types(["text", "bytea"])  # the bytes are those of a vector: see _postgresql_vectors
                for pair in zip(last, encoded(array[list(last.values())]), strict=True):
                    copy.write_row(pair)
            connection.execute(sql.SQL(statements.MERGE_VECTORS).format(held.table))

    def coverage(self, space: Space) -> tuple[int, int]:
        with self._server.transaction() as connection:
            registered = _registered(connection)
            if space.id not in registered:
                return 0, _number(connection, "select count(*) from items")
            held = _held(connection, space.id, expected=space)
            counts = connection.execute(sql.SQL(statements.COVERAGE).format(held.table)).fetchone()
        assert counts is not None
        return int(counts[0]), int(counts[1])

    def missing(self, space_id: str, limit: int | None = None) -> list[str]:
        with self._server.transaction() as connection:
            text = sql.SQL(statements.MISSING).format(_held(connection, space_id).table)
            return [row[0] for row in connection.execute(text, [limit])]

    def vectors(self, space_id: str, ids: Sequence[str] | None = None) -> tuple[list[str], NDArray[np.float32]]:
        with self._server.transaction() as connection:
            held = _held(connection, space_id)
            only = sql.SQL("" if ids is None else "where i.id = any(%s)")
            text = sql.SQL(statements.VECTORS).format(held.table, only)
            rows = connection.execute(text, [] if ids is None else [storable(ids)], binary=True).fetchall()
        position = {row[0]: number for number, row in enumerate(rows)}
        names = list(position) if ids is None else [name for name in ids if name in position]
        return names, decoded([rows[position[name]][1] for name in names], held.space.dim)

    def stored(self, space_id: str) -> Iterator[tuple[list[str], list[str], NDArray[np.float32]]]:
        after = ""
        while True:
            with self._server.transaction() as connection:
                held = _held(connection, space_id)
                text = sql.SQL(statements.PAGE_OF_VECTORS).format(held.table)
                rows = connection.execute(text, [after, page(held.space.dim)], binary=True).fetchall()
            if not rows:
                return
            names, hashes, vectors = zip(*rows, strict=True)
            yield list(names), list(hashes), decoded(vectors, held.space.dim)
            after = names[-1]

    def drop_embeddings(self, space_id: str, ids: Iterable[str]) -> int:
        with self._server.transaction() as connection:
            return delete(connection, _held(connection, space_id).table, storable(ids))

    def maintain(self) -> None:
        """Vacuum and analyse the tables, and index large spaces; others may read and write meanwhile."""
        with self._server.connection() as connection:
            connection.execute("vacuum (analyze) items")
            for name, held in _registered(connection).items():
                _maintain(connection, name, held.hnsw)
            self.features.maintain(connection)

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
        with self._server.transaction() as connection:
            connection.execute("set transaction isolation level repeatable read")  # all queries see the same rows
            held = _held(connection, space.id, expected=space)
            array = checked(queries, space)
            others = [_held(connection, name).table for name in without]
            rows = searching.passing(held.table, labels, checked_filter(where), others)
            if exact or not held.indexed:
                return _exactly(connection, rows, array, k)
            return [
                searching.by_index(connection, rows, query, k) or searching.by_scan(connection, rows, query, k)
                for query in array
            ]


def _exactly(
    connection: Connection, rows: searching.Passing, queries: NDArray[np.float32], k: int
) -> list[searching.Answer]:
    if len(queries) >= searching.FETCH_FROM:
        return searching.by_fetching(connection, rows, queries, k)
    return [searching.by_scan(connection, rows, query, k) for query in queries]


def _maintain(connection: Connection, space_id: str, lock: str) -> None:
    """Maintain one space, unless another process is doing so or has dropped the space."""
    if not _number(connection, "select pg_try_advisory_lock(hashtext(current_schema || %s))::int", [lock]):
        return
    try:
        held = _registered(connection).get(space_id)
        if held is not None:
            connection.execute(sql.SQL("vacuum (analyze) {}").format(held.table))
            count = _number(connection, sql.SQL("select count(*) from {}").format(held.table))
            if not held.indexed and count >= INDEX_FROM and held.space.dim <= _MOST_INDEXED:
                _index(connection, held)
    finally:
        connection.execute("select pg_advisory_unlock(hashtext(current_schema || %s))", [lock])


def _index(connection: Connection, held: _Held) -> None:
    name = sql.Identifier(held.hnsw)
    connection.execute(sql.SQL("drop index if exists {}").format(name))  # left invalid by an interrupted build
    text = "create index concurrently {} on {} using hnsw (vector vector_ip_ops)"
    connection.execute(sql.SQL(text).format(name, held.table))


def _registered(connection: Connection) -> dict[str, _Held]:
    return {
        row[0]: _Held(Space(*row[:4]), sql.Identifier(f"vectors_{row[4]}"), f"vectors_{row[4]}_hnsw", row[5])
        for row in connection.execute(statements.SPACES)
    }


def _held(connection: Connection, space_id: str, expected: Space | None = None) -> _Held:
    registered = _registered(connection)
    if space_id not in registered:
        raise unknown_space(space_id, (held.space for held in registered.values()))
    held = registered[space_id]
    same_space(expected or held.space, held.space)
    return held


def _number(connection: Connection, text: Any, parameters: Sequence[Any] = ()) -> int:
    row = connection.execute(text, parameters).fetchone()
    assert row is not None
    return int(row[0])


def _metadata(item: Item) -> str:
    """The item's metadata as JSON.

    Raises:
        DataError: a text of the item contains a character that PostgreSQL cannot store.
    """
    texts = (text for pair in item.metadata.items() for text in pair if isinstance(text, str))
    if not storable(["".join((item.id, item.uri, item.content_hash, item.label or "", *texts))]):
        raise DataError(f"item {item.id!r}: PostgreSQL cannot store a NUL or a lone surrogate; remove the character.")
    return json.dumps(dict(item.metadata), allow_nan=False)
