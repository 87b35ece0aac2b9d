"""Stores of a gallery: one file each. Items are the source of truth; every embedding space has a table of its own."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrubjay import plugins
from scrubjay.errors import ConfigError, DataError, SpaceError

NORM_TOLERANCE = 1e-3  # what rounding to half precision can do to a unit vector, and more


@dataclass(frozen=True, slots=True)
class Space:
    """What makes vectors comparable: the identity of an embedding space, and the generation it belongs to.

    Attributes:
        id: lower-case letters, digits, `-` and `_`; at most 64 of them.
        dim: length of a vector.
        fingerprint: hash of weights, preprocessing, normalisation and dimension.
        generation: "g0", "g1", …
    """

    id: str
    dim: int
    fingerprint: str
    generation: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_-]{1,64}", self.id):
            raise ConfigError(f"space id {self.id!r}: use 1 to 64 lower-case letters, digits, '-' or '_'.")
        if self.dim < 1:
            raise ConfigError(f"space {self.id!r}: dim = {self.dim}; give the length of its vectors, 1 or more.")
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
        id: chosen by the caller; a hash of the content makes adding the same image twice harmless.
        uri: where the image is, or was.
        content_hash: of the image's bytes; vectors of an older content no longer count.
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
            raise DataError(f"item {self.uri!a}: a name is not valid Unicode; rename the file or label.") from None
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


class Store(ABC):
    """Items, and their vectors in any number of spaces.

    A vector counts when its item exists and still has the content that was embedded; whatever else a crash, a
    delete or a changed image leaves behind is never counted and never found. Ids are ordered by their UTF-8 bytes.
    Every method raises `StorageError` when the disk is full or the stored data cannot be read.
    """

    @abstractmethod
    def __init__(self, url: str) -> None:
        """Take the address; nothing is opened or written before the first use.

        Raises:
            ConfigError: the address is not one of this store.
        """

    @abstractmethod
    def put_items(self, items: Iterable[Item]) -> None:
        """Add items, or replace those of the same id, in one commit. Of equal ids the last one counts."""

    @abstractmethod
    def delete(self, ids: Iterable[str]) -> int:
        """Remove items, and with them their vectors in every space, in one commit. Unknown ids are no error.

        Returns:
            How many items there were to remove.
        """

    @abstractmethod
    def items(self, ids: Sequence[str] | None = None) -> Iterator[Item]:
        """All items in id order; or those of `ids` that exist, in the order asked."""

    @abstractmethod
    def count(self) -> int:
        """Number of items."""

    @abstractmethod
    def create_space(self, space: Space) -> None:
        """Make room for the vectors of `space`; does nothing when it exists.

        Raises:
            SpaceError: another space has this id.
        """

    @abstractmethod
    def drop_space(self, space_id: str) -> None:
        """Remove a space and all its vectors; the items stay. An unknown space is no error."""

    @abstractmethod
    def spaces(self) -> list[Space]:
        """All spaces, oldest generation first."""

    @abstractmethod
    def put_embeddings(self, space: Space, ids: Sequence[str], vectors: ArrayLike) -> None:
        """Write the vectors (N, d) of existing items in one commit; a vector that is there already is replaced.

        Raises:
            SpaceError: the space is unknown, has another fingerprint or another dimension.
            DataError: an item is unknown, or a vector is not finite or not of unit norm. Nothing is written.
        """

    @abstractmethod
    def coverage(self, space: Space) -> tuple[int, int]:
        """Number of items with a vector in the space, and of those without; a space that is not there holds none.

        Raises:
            SpaceError: another space has this id.
        """

    @abstractmethod
    def missing(self, space_id: str, limit: int | None = None) -> list[str]:
        """Ids of items without a vector in the space, in id order: the cursor of work that can be resumed."""

    @abstractmethod
    def vectors(self, space_id: str, ids: Sequence[str] | None = None) -> tuple[list[str], NDArray[np.float32]]:
        """Ids (in id order, or in the order asked) and vectors (N, d) of the items that have one in the space."""

    @abstractmethod
    def stored(self, space_id: str) -> Iterator[tuple[list[str], list[str], NDArray[np.float32]]]:
        """Blocks of ids, content hashes and vectors (N, d) as they lie in the space, whether they count or not.

        Vectors of items that are gone or have changed are among them: what a check of the whole store looks at.
        """

    @abstractmethod
    def drop_embeddings(self, space_id: str, ids: Iterable[str]) -> int:
        """Remove the vectors of these ids from a space; the items stay. Returns how many vectors there were."""

    @abstractmethod
    def maintain(self) -> None:
        """Upkeep that searches profit from: compact what writes have left, refresh indices. Safe at any time."""

    @abstractmethod
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
        """The k nearest items of each query, best first, with their cosine; ties in id order.

        There are fewer than k only when the space holds fewer that pass the filters.

        Args:
            space: of the queries; only vectors of this space are compared.
            queries: float (Q, d), unit rows.
            k: at least 1.
            labels: consider items with one of these labels only.
            where: consider items only whose metadata have all these values.
            without: ids of spaces; leave out items that have a vector in one of them.
            exact: look at every vector, even where an index could answer.

        Raises:
            SpaceError: the space is unknown, has another fingerprint or another dimension.
            DataError: a query is not finite or not of unit norm.
        """


def unknown_space(space_id: str, known: Iterable[Space]) -> SpaceError:
    """The error for a space that a store does not have."""
    names = ", ".join(f"{space.id!r} ({space.generation})" for space in known) or "none"
    return SpaceError(f"no space {space_id!r} in this gallery; it has: {names}. Embed with one of those.")


def same_space(space: Space, stored: Space) -> None:
    """Refuse `space` unless it is the `stored` one.

    Raises:
        SpaceError: they differ; both generations are named.
    """
    if stored != space:
        raise SpaceError(
            f"vectors of {space.generation} ({space.fingerprint[:12]}, dim {space.dim}) cannot be compared "
            f"with those stored in space {stored.id!r}: {stored.generation} ({stored.fingerprint[:12]}, "
            f"dim {stored.dim}); embed again with that {stored.generation}, or use a space of its own."
        )


def checked(vectors: ArrayLike, space: Space) -> NDArray[np.float32]:
    """`vectors` as float32 (N, d) in C order, if they can be vectors of `space`.

    Raises:
        SpaceError: not of shape (N, d).
        DataError: a vector is not finite, or not of unit norm.
    """
    array = np.ascontiguousarray(vectors, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != space.dim:
        raise SpaceError(
            f"vectors of shape {array.shape} are not of {space.generation}: it needs (N, {space.dim}); "
            f"embed again with {space.generation}."
        )
    norms = np.linalg.norm(array, axis=1)
    bad = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))  # negated, so that NaN is bad as well
    if bad.size:
        raise DataError(f"vector {bad[0]} has norm {norms[bad[0]]:.4g}, not 1; divide it by its norm, or embed again.")
    return array


def open_store(url: str) -> Store:
    """The store at `url`, for instance `lancedb:///home/me/shop/gallery`. Nothing is opened before the first use.

    Raises:
        ConfigError: no store has this scheme, or the address is not one of its own.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ConfigError(f"{url!r} is no address of a store; write it as lancedb:///path/of/the/folder.")
    store: Store = plugins.load("stores", scheme, Store)(url)
    return store
