"""Clients of a Qdrant server or folder with translated errors: the only module that opens them."""

from __future__ import annotations

import os
import re
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from scrubjay.errors import CatalogueError, ConfigError, ScrubjayError, StorageError

try:
    from qdrant_client import QdrantClient, models
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
except ImportError:
    raise ConfigError("qdrant:// requires the package qdrant-client: pip install 'scrubjay[qdrant]'.") from None

__all__ = [
    "Address",
    "Opened",
    "QdrantClient",
    "address",
    "index_payload",
    "make_collection",
    "models",
    "opened",
    "translated",
]

_OLDEST = (1, 18)  # the first server that can add a named vector to a collection with points
_TIMEOUT = 60  # seconds; a batch of vectors may wait for the optimiser


@dataclass(frozen=True, slots=True)
class Address:
    """Location of a gallery.

    Attributes:
        folder: folder of the local mode, or None.
        server: http(s)://host:port, or None.
        collection: name of the collection.
        shown: the location in messages.
    """

    folder: Path | None
    server: str | None
    collection: str
    shown: str


def address(url: str) -> Address:
    """Parse `qdrant://host:6333/collection?tls=true` or `qdrant:///folder`.

    Raises:
        ConfigError: the address has neither form.
    """
    path = url.removeprefix("qdrant://")
    if path.startswith("/") and path.strip("/"):
        folder = Path(path).absolute()
        return Address(folder, None, "gallery", str(folder))
    parts = urlsplit(url)
    options, collection = dict(parse_qsl(parts.query)), parts.path.strip("/")
    try:
        host, port = parts.hostname, parts.port or 6333
    except ValueError:
        host, port = None, 0
    if not host or not re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", collection) or options.keys() - {"tls"}:
        raise ConfigError(
            f"{url!r} names no collection; write qdrant://host:6333/collection, with ?tls=true at its end for https, "
            "or qdrant:///path/of/a/folder for trials."
        )
    scheme = "https" if options.get("tls") == "true" else "http"
    host = f"[{host}]" if ":" in host else host
    return Address(None, f"{scheme}://{host}:{port}", collection, f"qdrant://{host}:{port}/{collection}")


class Opened:
    """A client that is closed when this object is garbage-collected."""

    def __init__(self, client: Any) -> None:
        self.client = client
        weakref.finalize(self, client.close)


# A folder can be opened by one client at a time, even within a process, so stores of the same folder share a client.
_FOLDERS: weakref.WeakValueDictionary[Path, Opened] = weakref.WeakValueDictionary()


def opened(where: Address) -> Opened:
    """The client for this address.

    Raises:
        ConfigError: the server is too old, or it refuses the API key.
        CatalogueError: another process has the folder open.
        StorageError: the server cannot be reached, or the folder cannot be written.
    """
    if where.folder is None:
        return _served(where)
    client = _FOLDERS.get(where.folder)
    if client is None:
        with translated(where):
            client = Opened(QdrantClient(path=str(where.folder), force_disable_check_same_thread=True))
        _FOLDERS[where.folder] = client
    return client


def _served(where: Address) -> Opened:
    key = os.environ.get("QDRANT_API_KEY")
    with translated(where):
        client = QdrantClient(url=where.server, api_key=key, timeout=_TIMEOUT, check_compatibility=False)
        result = Opened(client)
        version = str(client.info().version)
    if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < _OLDEST:
        raise ConfigError(f"{where.shown} is Qdrant {version}; update the server to 1.18 or newer.")
    return result


def make_collection(client: QdrantClient, name: str, served: bool) -> None:
    """Create the collection of a gallery's items, if it does not exist.

    Args:
        client: the client.
        name: name of the collection.
        served: the client is one of a server; the local mode has no payload index, and warns.
    """
    if client.collection_exists(name):
        return
    try:
        client.create_collection(name, vectors_config={})
    except Exception:
        if not client.collection_exists(name):  # else another process has created it meanwhile
            raise
    if served:
        for field in ("content_hash", "label", "facts"):
            index_payload(client, name, field)


def index_payload(client: QdrantClient, name: str, field: str) -> None:
    """Index a field of the payload in a collection of a server."""
    client.create_payload_index(name, field, models.PayloadSchemaType.KEYWORD, wait=True)


@contextmanager
def translated(where: Address) -> Iterator[None]:
    """Translate the client's errors into ours, which name the location and say what to do."""
    try:
        yield
    except UnexpectedResponse as error:
        raise _answered(error, where) from error
    except ResponseHandlingException as error:
        reason = str(error.source) or type(error.source).__name__
        raise StorageError(f"{where.shown}: no answer ({reason}); start the server, or correct the address.") from error
    except (OSError, RuntimeError, KeyError, ValueError, sqlite3.Error) as error:
        raise _local(error, where) from error


def _answered(error: UnexpectedResponse, where: Address) -> ScrubjayError:
    try:
        reason = str(error.structured()["status"]["error"])
    except (ValueError, KeyError, TypeError):
        reason = error.content.decode(errors="replace")
    reason = " ".join(reason.split())[:200] or error.reason_phrase
    if error.status_code in (401, 403):
        return ConfigError(f"{where.shown}: {reason}; set QDRANT_API_KEY to a key that may read and write.")
    if re.search(r"no space left|disk.*(full|space)|out of memory", reason, re.IGNORECASE):
        return StorageError(f"{where.shown}: {reason}; free some space on the server and run the command again.")
    if error.status_code in (408, 429, 503, 504):
        return CatalogueError(f"{where.shown}: {reason}; the server is busy, run the command again.")
    return StorageError(f"{where.shown}: {error.status_code}, {reason}; see the server's log.")


def _local(error: Exception, where: Address) -> ScrubjayError:
    if "already accessed" in str(error):
        return CatalogueError(f"{where.shown}: another process has it open; wait for it, or use a Qdrant server.")
    if isinstance(error, OSError) and error.strerror:
        return StorageError(f"{where.shown}: {error.strerror}; make the folder writable, or name another one.")
    return StorageError(f"{where.shown} is damaged or cannot be written ({str(error)[:200]}); restore it from a copy.")
