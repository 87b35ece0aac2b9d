"""Rows of PostgreSQL tables with the key `id`: locked against deletion, and deleted."""

from __future__ import annotations

from collections.abc import Iterable

from scrubjay.errors import DataError
from scrubjay.stores import _postgresql_statements as statements
from scrubjay.stores._postgresql_search import storable
from scrubjay.stores._postgresql_server import Connection, sql


def lock_items(connection: Connection, ids: Iterable[str]) -> None:
    """Lock these items against deletion until the end of the transaction.

    Raises:
        DataError: an item does not exist.
    """
    text = "select id from items where id = any(%s) order by id for key share"
    known = {row[0] for row in connection.execute(text, [storable(ids)])}
    unknown = [name for name in ids if name not in known]
    if unknown:
        raise DataError(f"no item {unknown[0]!r} ({len(unknown)} such ids); put the items before their vectors.")


def delete(connection: Connection, table: sql.Identifier, ids: list[str]) -> int:
    """Delete the rows with these ids; returns their number."""
    return connection.execute(sql.SQL(statements.DELETE).format(table, table), [ids]).rowcount
