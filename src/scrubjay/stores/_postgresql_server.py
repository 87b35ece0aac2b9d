"""Connections to a PostgreSQL server with translated errors: the only module that opens them."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from scrubjay.errors import CatalogueError, ConfigError, ScrubjayError, StorageError

try:
    import psycopg
    from psycopg import errors, sql
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
except ImportError:
    raise ConfigError("postgresql:// requires the package psycopg: pip install 'scrubjay[postgresql]'.") from None

__all__ = ["Address", "Connection", "Server", "address", "sql", "translated", "translation"]

Connection = psycopg.Connection[tuple[Any, ...]]
_OLDEST = (0, 8)  # the first pgvector with iterative index scans, which continue until enough rows pass a filter

# Ids are ordered by their bytes. `json` preserves the text of numbers; `jsonb` would write 1e300 in digits.
_TABLES = """
create table if not exists items (
    id text collate "C" primary key, uri text not null, content_hash text not null, label text, metadata json not null
);
create index if not exists items_label on items (label);
create index if not exists items_metadata on items using gin ((metadata::jsonb) jsonb_path_ops);
create table if not exists spaces (
    id text collate "C" primary key, dim integer not null, fingerprint text not null, generation text not null,
    number integer not null generated always as identity
)
"""


@dataclass(frozen=True, slots=True)
class Address:
    """Location of a gallery.

    Attributes:
        conninfo: libpq's connection string; it may contain a password.
        schema: schema of the gallery's tables.
        shown: host and database for messages, without the password.
    """

    conninfo: str
    schema: str
    shown: str


def address(url: str) -> Address:
    """Parse `postgresql://user@host/database?schema=shop`; other options are passed to libpq.

    Raises:
        ConfigError: the address cannot be parsed, or the name of the schema is not valid.
    """
    parts = urlsplit(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    schema = dict(options).get("schema", "scrubjay")
    if not re.fullmatch(r"(?!pg_)[a-z_][a-z0-9_-]{0,62}", schema):
        raise ConfigError(
            f"schema={schema!r}: use 1 to 63 lower-case letters, digits, '_' or '-', beginning with a letter."
        )
    rest = urlunsplit(parts._replace(query=urlencode([pair for pair in options if pair[0] != "schema"])))
    try:
        given = conninfo_to_dict(rest)
        conninfo = make_conninfo(rest, **{"connect_timeout": 10, "application_name": "scrubjay", **given})
    except psycopg.ProgrammingError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"not a PostgreSQL address ({reason}); write postgresql://user@host/database?schema=shop."
        ) from None
    return Address(conninfo, schema, f"postgresql://{given.get('host', 'localhost')}/{given.get('dbname', '')}")


class Server:
    """A pool of connections: each block that asks for one has it to itself, so threads do not share transactions."""

    def __init__(self, where: Address) -> None:
        self.address = where
        self._idle: list[Connection] = []
        weakref.finalize(self, _close, self._idle)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection in a transaction: everything in the block is committed, or nothing."""
        with self.connection() as connection, connection.transaction():
            yield connection

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection in autocommit mode."""
        with translated(self.address):
            connection = self._borrow()
            try:
                yield connection
            finally:
                if not connection.closed:
                    self._idle.append(connection)

    def _borrow(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            try:
                connection.execute("")  # fails if the server was restarted meanwhile
            except psycopg.OperationalError:
                connection.close()
            else:
                return connection
        connection = psycopg.connect(self.address.conninfo, autocommit=True, client_encoding="utf8")
        try:
            _prepare(connection, self.address)
        except BaseException:
            connection.close()
            raise
        return connection


def _close(connections: list[Connection]) -> None:
    while connections:
        connections.pop().close()


def _prepare(connection: Connection, where: Address) -> None:
    """Create the extension and the tables if they are missing, and set the search path to the gallery's schema."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigError(f"{where.shown} is encoded in {encoding}; create a database with encoding 'UTF8'.")
    extension = _extension(connection)
    if extension is None or not _has_tables(connection, where.schema):
        _make(connection, where, extension is None)
        extension = _extension(connection)
    assert extension is not None
    home, version = extension
    if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < _OLDEST:
        raise ConfigError(
            f"{where.shown} has pgvector {version}; update it to 0.8 or newer: alter extension vector update."
        )
    connection.execute(_search_path(where.schema, home))


def _extension(connection: Connection) -> tuple[str, str] | None:
    """Schema and version of the extension pgvector, or None."""
    row = connection.execute(
        "select nspname, extversion from pg_extension e join pg_namespace n on n.oid = extnamespace "
        "where extname = 'vector'"
    ).fetchone()
    return (str(row[0]), str(row[1])) if row else None


def _has_tables(connection: Connection, schema: str) -> bool:
    name = sql.Identifier(schema, "spaces").as_string(connection)
    row = connection.execute("select to_regclass(%s) is not null", [name]).fetchone()
    return bool(row and row[0])


def _make(connection: Connection, where: Address, extension: bool) -> None:
    with connection.transaction():
        # `if not exists` does not protect from a second process that does the same at the same time
        connection.execute("select pg_advisory_xact_lock(hashtext(%s))", [f"scrubjay {where.schema}"])
        if extension:
            connection.execute("select pg_advisory_xact_lock(hashtext('scrubjay extension'))")
            connection.execute("create extension if not exists vector")
        if not _has_tables(connection, where.schema):
            connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(where.schema)))
            connection.execute(_search_path(where.schema))
            connection.execute(_TABLES)


def _search_path(*schemas: str) -> sql.Composed:
    return sql.SQL("set search_path = {}").format(sql.SQL(", ").join(map(sql.Identifier, dict.fromkeys(schemas))))


@contextmanager
def translated(where: Address) -> Iterator[None]:
    """Translate the driver's errors into ours, which name the server and say what to do."""
    try:
        yield
    except psycopg.Error as error:
        raise translation(error, where) from error


def translation(error: psycopg.Error, where: Address) -> ScrubjayError:
    """Our error for an `error` of the driver; its message says what the user can do."""
    reason = error.diag.message_primary or _said(str(error))
    for kinds, make in _CURES:
        if isinstance(error, kinds):
            ours, cure = make
            return ours(f"{where.shown}, schema {where.schema!r}: {reason}; {cure}.")
    if isinstance(error, psycopg.OperationalError):
        return _unreachable(reason, where)
    return StorageError(f"{where.shown}, schema {where.schema!r}: {reason[:200]}; see the server's log.")


def _said(text: str) -> str:
    """The reason in a message of libpq: its last line that is not a hint, without the address that was tried."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("\t")]
    return lines[-1].rpartition("failed: ")[2].removeprefix("FATAL:").strip() if lines else "no reason given"


_AGAIN = "run the command again: nothing committed was lost"
_Kinds = tuple[type[psycopg.Error], ...]
_CURES: list[tuple[_Kinds, tuple[type[ScrubjayError], str]]] = [
    ((errors.DiskFull, errors.OutOfMemory), (StorageError, f"free some space on the server, then {_AGAIN}")),
    ((errors.UndefinedFile, errors.FeatureNotSupported), (ConfigError, "install pgvector 0.8 or newer on the server")),
    ((errors.InsufficientPrivilege,), (ConfigError, "let its owner grant the permission, or use another role")),
    ((errors.ReadOnlySqlTransaction,), (ConfigError, "give the address of the primary server, which accepts writes")),
    ((errors.DeadlockDetected, errors.SerializationFailure), (CatalogueError, f"another process writes; {_AGAIN}")),
    ((errors.LockNotAvailable, errors.QueryCanceled), (CatalogueError, f"the server was too busy; {_AGAIN}")),
    ((errors.UndefinedTable,), (CatalogueError, "another process dropped a space meanwhile; run the command again")),
    ((errors.DataCorrupted, errors.IndexCorrupted), (StorageError, "restore the gallery from a copy")),
    ((errors.TooManyConnections,), (StorageError, "raise max_connections, or end other clients")),
]


def _unreachable(reason: str, where: Address) -> ScrubjayError:
    """Our error for a failure to connect; these have no error code, so the text of the message decides."""
    if re.search(r"password|authentication|pg_hba|role .* does not exist", reason):
        return ConfigError(f"{where.shown}: {reason}; put user and password in the address, or in ~/.pgpass.")
    if re.search(r"database .* does not exist", reason):
        return ConfigError(f"{where.shown}: {reason}; create it (createdb), or name another in the address.")
    return StorageError(
        f"{where.shown}: no connection ({reason}); start the server, or correct the address; then {_AGAIN}."
    )
