"""Trunk features in PostgreSQL: for each era a table of byte strings, which its row in the table `eras` numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from scrubjay.stores._feature_codec import Codes, FeatureCodec
from scrubjay.stores._features import Block, FeatureStore, checked_era
from scrubjay.stores._postgresql_rows import delete, lock_items
from scrubjay.stores._postgresql_search import storable
from scrubjay.stores._postgresql_server import Connection, Server, sql

_BYTES = 1 << 24  # of a page of features

# Made with the first era: galleries of older versions have no such table, and roles that only read cannot make it.
_ERAS = """
create table if not exists eras (
    era text primary key, codec text not null, number integer not null generated always as identity
)
"""
_REGISTER = "insert into eras (era, codec) values (%s, %s) on conflict do nothing returning number"
# A row of features fills half a page or more, so it is stored out of line, and uncompressed since it does not shrink.
_CREATE = """
create table {0} (id text collate "C" primary key, content_hash text not null, code bytea not null);
alter table {0} alter column code set storage external
"""
_INCOMING = 'create temporary table incoming (id text collate "C", code bytea) on commit drop'
_COPY = "copy incoming from stdin (format binary)"
_MERGE = """
insert into {} select id, content_hash, code from incoming join items using (id) order by id
on conflict (id) do update set content_hash = excluded.content_hash, code = excluded.code
"""
_MISSING = """
select i.id from items i where not exists (select from {} f where f.id = i.id and f.content_hash = i.content_hash)
order by i.id limit %s
"""
_READ = """
select i.id, f.code from items i join {} f on f.id = i.id and f.content_hash = i.content_hash where i.id = any(%s)
"""
_PAGE = "select id, content_hash, code from {} where id > %s order by id limit %s"
_DROP_STALE = """
delete from {} f where not exists (select from items i where i.id = f.id and i.content_hash = f.content_hash)
"""


class _Era(NamedTuple):
    codec: FeatureCodec
    table: sql.Identifier


class PostgresFeatures(FeatureStore):
    """Features of the items of one schema: a table `features_<number>` for each era."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def create(self, era: str, codec: FeatureCodec) -> None:
        checked_era(era, codec)
        with self._server.transaction() as connection:
            # `if not exists` does not protect from a second process that does the same at the same time
            connection.execute("select pg_advisory_xact_lock(hashtext(current_schema || ' eras'))")
            connection.execute(_ERAS)
            row = connection.execute(_REGISTER, [era, codec.to_text()]).fetchone()
            if row is not None:
                connection.execute(sql.SQL(_CREATE).format(_table(row[0])))

    def codecs(self) -> dict[str, FeatureCodec]:
        with self._server.transaction() as connection:
            return {era: held.codec for era, held in _registered(connection).items()}

    def drop(self, era: str) -> None:
        with self._server.transaction() as connection:
            held = _registered(connection).get(era)
            if held and connection.execute("delete from eras where era = %s", [era]).rowcount:
                connection.execute(sql.SQL("drop table {}").format(held.table))

    def missing(self, era: str, limit: int | None = None) -> list[str]:
        held = self._held(era)
        with self._server.transaction() as connection:
            return [row[0] for row in connection.execute(sql.SQL(_MISSING).format(held.table), [limit])]

    def stored(self, era: str) -> Iterator[Block]:
        codec, table = self._held(era)
        after, size = "", max(1, _BYTES // codec.bytes_per_item)
        while True:  # one transaction per page: a slow consumer must not hold back the server's vacuum
            with self._server.transaction() as connection:
                rows = connection.execute(sql.SQL(_PAGE).format(table), [after, size], binary=True).fetchall()
            if not rows:
                return
            names, hashes, codes = zip(*rows, strict=True)
            yield list(names), list(hashes), codec.from_bytes(list(codes))
            after = names[-1]

    def remove(self, era: str, ids: Iterable[str]) -> int:
        held = self._held(era)
        with self._server.transaction() as connection:
            return delete(connection, held.table, storable(ids))

    def delete(self, connection: Connection, ids: list[str]) -> None:
        """Remove the features of these ids from every era, in the transaction of a connection."""
        for held in _registered(connection).values():
            delete(connection, held.table, ids)

    def maintain(self, connection: Connection) -> None:
        """Remove features that are not current, and vacuum and analyse the tables."""
        for held in _registered(connection).values():
            connection.execute(sql.SQL(_DROP_STALE).format(held.table))
            connection.execute(sql.SQL("vacuum (analyze) {}").format(held.table))

    def _write(self, era: str, ids: list[str], codes: Codes) -> None:
        codec, table = self._held(era)
        with self._server.transaction() as connection:
            lock_items(connection, ids)
            connection.execute(_INCOMING)
            with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
                copy.set_types(["text", "bytea"])
                for row in zip(ids, codec.to_bytes(codes), strict=True):
                    copy.write_row(row)
            connection.execute(sql.SQL(_MERGE).format(table))

    def _read(self, era: str, ids: Sequence[str]) -> tuple[list[str], Codes]:
        codec, table = self._held(era)
        with self._server.transaction() as connection:
            rows = connection.execute(sql.SQL(_READ).format(table), [storable(ids)], binary=True).fetchall()
        return [row[0] for row in rows], codec.from_bytes([row[1] for row in rows])

    def _held(self, era: str) -> _Era:
        self.codec(era)  # refuses an unknown era
        with self._server.transaction() as connection:
            return _registered(connection)[era]


def _registered(connection: Connection) -> dict[str, _Era]:
    (has_eras,) = connection.execute("select to_regclass('eras') is not null").fetchone() or (False,)
    rows = connection.execute("select era, codec, number from eras") if has_eras else ()
    return {row[0]: _Era(FeatureCodec.from_text(row[1]), _table(row[2])) for row in rows}


def _table(number: int) -> sql.Identifier:
    return sql.Identifier(f"features_{number}")
