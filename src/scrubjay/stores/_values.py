"""The values that stores hold: embedding spaces and items."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scrubjay.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Space:
    """Identity of an embedding space; only vectors of equal spaces are comparable.

    Attributes:
        id: name of the space: 1 to 64 lower-case letters, digits, `-` and `_`.
        dim: dimension of the vectors.
        fingerprint: hash of weights, preprocessing, normalisation and dimension.
        generation: name of the generation that embeds into it: "g0", "g1", ….
    """

    id: str
    dim: int
    fingerprint: str
    generation: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_-]{1,64}", self.id):
            raise ConfigError(f"space id {self.id!r}: use 1 to 64 lower-case letters, digits, '-' or '_'.")
        if self.dim < 1:
            raise ConfigError(f"space {self.id!r}: dim = {self.dim}; give the dimension of its vectors, 1 or more.")
        if not self.fingerprint:
            raise ConfigError(f"space {self.id!r}: the fingerprint is empty; give the hash that identifies its model.")
        if not re.fullmatch(r"g\d+", self.generation, re.ASCII):
            raise ConfigError(f"space {self.id!r}: generation {self.generation!r}; write it as g0, g1, ….")

    @property
    def number(self) -> int:
        """Number of the generation: 0 for "g0"."""
        return int(self.generation[1:])


@dataclass(frozen=True, slots=True)
class Item:
    """One image of the gallery.

    Attributes:
        id: chosen by the caller; with a hash of the content, adding the same image twice has no effect.
        uri: location of the image when it was added.
        content_hash: hash of the image's bytes; a vector of an older content is not current.
        label: name of its class, or None.
        metadata: text, numbers, true/false or None, by name.
    """

    id: str
    uri: str
    content_hash: str
    label: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id:
            raise DataError(f"item {self.uri!r} has an empty id; give it one, such as a hash of its content.")
        try:
            "".join((self.id, self.uri, self.content_hash, self.label or "")).encode()
        except UnicodeEncodeError:
            raise DataError(
                f"item {self.uri!a}: its file name or label is not valid Unicode; rename the file or label."
            ) from None
        for key, value in self.metadata.items():
            if not (isinstance(key, str) and isinstance(value, str | int | float | bool | None)):
                kind = type(value).__name__
                raise DataError(
                    f"item {self.id!r}: metadata {key!r} is a {kind}; give text, a number, true/false or null."
                )
        try:
            json.dumps(dict(self.metadata), allow_nan=False)
        except ValueError:
            raise DataError(f"item {self.id!r}: metadata holds a number that is not finite; leave it out.") from None
