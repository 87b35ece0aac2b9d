"""API keys: made and revoked on the command line, checked at every request, effective at once in all processes.

    shop/keys.json

A key is 256 random bits, so its SHA-256 can be stored: it can neither be guessed nor found from its hash by trying
likely ones, as the hash of a password could, and a slow hash would only make every request slower. The key itself is
shown once, when it is made.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from scrubjay.errors import CatalogueError, ConfigError, StorageError
from scrubjay.io.atomic import write_json
from scrubjay.io.locking import locked
from scrubjay.service.schemas.base import Scope

SCOPES: tuple[Scope, ...] = get_args(Scope)
"""All scopes; each holds those before it."""
_PREFIX = "sj_"


@dataclass(frozen=True, slots=True)
class Key:
    """What is stored of an API key.

    Attributes:
        id: identity of the key in lists and logs.
        name: what it is for.
        scope: what it may do.
        hash: SHA-256 of the key, hexadecimal.
        created: time, ISO 8601, UTC.
        last_four: last four characters of the key, by which its owner recognizes it.
        revoked: time at which it was revoked; None while it is valid.
    """

    id: str
    name: str
    scope: Scope
    hash: str
    created: str
    last_four: str
    revoked: str | None = None

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Everything that the key allows."""
        return SCOPES[: SCOPES.index(self.scope) + 1]


class KeyFile:
    """Reads and changes the keys of a catalogue.

    Args:
        folder: folder of the catalogue.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "keys.json"
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int, int] | None, tuple[Key, ...]] = None, ()

    def keys(self) -> tuple[Key, ...]:
        """All keys, the revoked ones too; the file is read again whenever it has changed.

        Raises:
            StorageError: the file is damaged; no key is valid then.
        """
        with self._lock:
            try:
                status = os.stat(self.path)
            except FileNotFoundError:
                return ()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._read[0] != version:
                self._read = version, self._load()
            return self._read[1]

    @property
    def required(self) -> bool:
        """Whether requests need a key: from the first key on, even after all were revoked."""
        return bool(self.keys())

    def find(self, presented: str) -> Key | None:
        """The valid key that a request presented; None if there is none.

        Every stored hash is compared, in constant time.
        """
        digest = hashlib.sha256(presented.encode("utf-8", "surrogatepass")).hexdigest()
        found = None
        for key in self.keys():
            if hmac.compare_digest(key.hash, digest) and key.revoked is None:
                found = key
        return found

    def make(self, name: str, scope: str) -> tuple[str, Key]:
        """Make a key; returns the key itself, which is not stored, and what is.

        Raises:
            ConfigError: the scope is unknown, or the name is empty or taken.
        """
        if scope not in SCOPES:
            raise ConfigError(f"scope {scope!r}: give one of {', '.join(SCOPES)}.")
        if not name.strip():
            raise ConfigError("the name of the key is empty; say what it is for.")
        secret = _PREFIX + secrets.token_urlsafe(32)
        with locked(self.folder, "keys.lock"):
            keys = self.keys()
            if any(key.name == name and key.revoked is None for key in keys):
                raise ConfigError(f"there is a key named {name!r} already: revoke it first, or choose another name.")
            digest = hashlib.sha256(secret.encode()).hexdigest()
            key = Key(secrets.token_hex(4), name, scope, digest, _now(), secret[-4:])
            self._write((*keys, key))
        return secret, key

    def revoke(self, name: str) -> Key:
        """Revoke a key by its name or id, at once and for good.

        Raises:
            CatalogueError: there is no such valid key.
        """
        with locked(self.folder, "keys.lock"):
            keys = self.keys()
            valid = [key for key in keys if key.revoked is None]
            found = next((key for key in valid if name in (key.name, key.id)), None)
            if found is None:
                known = ", ".join(key.name for key in valid) or "none"
                raise CatalogueError(f"{self.folder}: there is no valid key {name!r}; there are: {known}.")
            revoked = replace(found, revoked=_now())
            self._write(tuple(revoked if key is found else key for key in keys))
        return revoked

    def _write(self, keys: tuple[Key, ...]) -> None:
        write_json(self.path, {"keys": [asdict(key) for key in keys]})
        self.path.chmod(0o600)

    def _load(self) -> tuple[Key, ...]:
        try:
            return tuple(Key(**values) for values in json.loads(self.path.read_text(encoding="utf-8"))["keys"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{self.path}: cannot be read ({error}); restore it from a copy, or delete it and make new keys: "
                f"scrubjay keys make {self.folder} NAME"
            ) from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
