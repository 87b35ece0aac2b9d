"""A client of a Qdrant server or folder, and what goes wrong there in one line: the only place that opens one."""

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
    raise ConfigError("qdrant:// needs the package qdrant-client: pip install 'scrubjay[qdrant]'.") from None

__all__ = ["Address", "Opened", "QdrantClient", "address", "models", "opened", "translated"]

_OLDEST = (1, 18)  # the first server that adds a named vector to a collection that holds points
_TIMEOUT = 60  # seconds; a batch of vectors may wait for the optimiser


@dataclass(frozen=True, slots=True)
class Address:
    """Where a gallery is.

    Attributes:
        folder: of the local mode, or None.
        server: http(s)://host:port, or None.
        collection: name of the collection.
        shown: for messages.
    """

    folder: Path | None
    server: str | None
    collection: str
    shown: str


def address(url: str) -> Address:
    """The parts of `qdrant://host:6333/collection?tls=true`, or of `qdrant:///folder`.

    Raises:
        ConfigError: the address is neither.
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
            f"{url!r} names no collection; write qdrant://host:6333/collection, ?tls=true behind it for https, or "
            "qdrant:///path/of/a/folder for trials."
        )
    scheme = "https" if options.get("tls") == "true" else "http"
    host = f"[{host}]" if ":" in host else host
    return Address(None, f"{scheme}://{host}:{port}", collection, f"qdrant://{host}:{port}/{collection}")


class Opened:
    """A client that is closed when nobody holds it any more."""

    def __init__(self, client: Any) -> None:
        self.client = client
        weakref.finalize(self, client.close)


# A folder takes one client at a time, even within a process; stores of the same folder share theirs.
_FOLDERS: weakref.WeakValueDictionary[Path, Opened] = weakref.WeakValueDictionary()


def opened(where: Address) -> Opened:
    """The client of this address.

    Raises:
        ConfigError: the server is older than what the store needs, or wants another key.
        CatalogueError: another process has the folder open.
        StorageError: the server cannot be reached, or the folder cannot be written.
    """
    if where.folder is None:
        return _served(where)
    found = _FOLDERS.get(where.folder)
    if found is None:
        with translated(where):
            found = Opened(QdrantClient(path=str(where.folder), force_disable_check_same_thread=True))
        _FOLDERS[where.folder] = found
    return found


def _served(where: Address) -> Opened:
    key = os.environ.get("QDRANT_API_KEY")
    with translated(where):
        client = QdrantClient(url=where.server, api_key=key, timeout=_TIMEOUT, check_compatibility=False)
        result = Opened(client)
        version = str(client.info().version)
    if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < _OLDEST:
        raise ConfigError(f"{where.shown} is Qdrant {version}; update the server to 1.18 or newer.")
    return result


@contextmanager
def translated(where: Address) -> Iterator[None]:
    """Turn what the client raises into an error that names the place and the cure."""
    try:
        yield
    except UnexpectedResponse as error:
        raise _answered(error, where) from error
    except ResponseHandlingException as error:
        reason = str(error.source) or type(error.source).__name__
        raise StorageError(f"{where.shown}: no answer ({reason}); start the server, or mend the address.") from error
    except (OSError, RuntimeError, KeyError, ValueError, sqlite3.Error) as error:
        raise _local(error, where) from error


def _answered(error: UnexpectedResponse, where: Address) -> ScrubjayError:
    try:
        reason = str(error.structured()["status"]["error"])
    except (ValueError, KeyError, TypeError):
        reason = error.content.decode(errors="replace")
    reason = " ".join(reason.split())[:200] or error.reason_phrase
    if error.status_code in (401, 403):
        return ConfigError(f"{where.shown}: {reason}; put a key that may read and write into QDRANT_API_KEY.")
    if re.search(r"no space left|disk.*(full|space)|out of memory", reason, re.IGNORECASE):
        return StorageError(f"{where.shown}: {reason}; make room on the server and run it again.")
    if error.status_code in (408, 429, 503, 504):
        return CatalogueError(f"{where.shown}: {reason}; the server is busy, run it again.")
    return StorageError(f"{where.shown}: {error.status_code}, {reason}; see the server's log.")


def _local(error: Exception, where: Address) -> ScrubjayError:
    if "already accessed" in str(error):
        return CatalogueError(f"{where.shown}: another process has it open; wait for it, or use a Qdrant server.")
    if isinstance(error, OSError) and error.strerror:
        return StorageError(f"{where.shown}: {error.strerror}; make the folder writable, or name another.")
    return StorageError(f"{where.shown} is damaged or cannot be written ({str(error)[:200]}); restore it from a copy.")
