"""Stores of a gallery: one file per store. Items are the source of truth; each embedding space has its own vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrubjay import plugins
from scrubjay.errors import ConfigError, DataError, SpaceError
from scrubjay.stores._feature_codec import Encoding, FeatureCodec
from scrubjay.stores._features import FeatureStore
from scrubjay.stores._values import Item, Space

__all__ = [
    "NORM_TOLERANCE",
    "Encoding",
    "FeatureCodec",
    "FeatureStore",
    "Item",
    "Space",
    "Store",
    "checked",
    "open_store",
    "same_space",
    "unknown_space",
]

NORM_TOLERANCE = 1e-3  # more than the error of a unit vector that was rounded to half precision


class Store(ABC):
    """Items, their vectors in any number of spaces, and their trunk features of any number of eras.

    A vector is current while its item exists with the content that was embedded. Only current vectors are counted and
    found; others, which a crash, a deletion or a changed image may leave behind, are ignored. Ids are ordered by their
    UTF-8 bytes. Every method raises `StorageError` when the disk is full or the stored data cannot be read.
    """

    @abstractmethod
    def __init__(self, url: str) -> None:
        """Parse the address; nothing is opened or written before the first use.

        Raises:
            ConfigError: the address is not valid for this store.
        """

    @property
    @abstractmethod
    def features(self) -> FeatureStore:
        """Trunk features of the items; `delete` removes those of its items as well."""

    @abstractmethod
    def put_items(self, items: Iterable[Item]) -> None:
        """Add items, or replace those with the same id, in one commit. Of equal ids the last item is stored."""

    @abstractmethod
    def delete(self, ids: Iterable[str]) -> int:
        """Remove items with their vectors in every space and their features, in one commit. Unknown ids are ignored.

        Returns:
            Number of items that were removed.
        """

    @abstractmethod
    def items(self, ids: Sequence[str] | None = None) -> Iterator[Item]:
        """All items in id order; or those of `ids` that exist, in the order given."""

    @abstractmethod
    def page(
        self,
        limit: int,
        after: str | None = None,
        labels: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Item]:
        """Some items in id order; the store selects them, so that not all items are read.

        Args:
            limit: largest number of items, at least 1.
            after: only items whose ids come after this one.
            labels: only items with one of these labels.
            where: only items whose metadata have all these values.

        Returns:
            Fewer than `limit` items only where no more follow.

        Raises:
            DataError: a value of `where` has a type that metadata cannot have.
        """

    @abstractmethod
    def labels(self) -> tuple[list[str], list[str | None]]:
        """Ids of all items, in id order, and their labels."""

    @abstractmethod
    def count(self) -> int:
        """Number of items."""

    @abstractmethod
    def create_space(self, space: Space) -> None:
        """Register a space for vectors; has no effect if it exists.

        Raises:
            SpaceError: a different space has this id.
        """

    @abstractmethod
    def drop_space(self, space_id: str) -> None:
        """Remove a space and all its vectors; the items stay. An unknown space is ignored."""

    @abstractmethod
    def spaces(self) -> list[Space]:
        """All spaces, oldest generation first."""

    @abstractmethod
    def put_embeddings(self, space: Space, ids: Sequence[str], vectors: ArrayLike) -> None:
        """Write the vectors (N, d) of existing items in one commit; an existing vector is replaced.

        Raises:
            SpaceError: the space is unknown, has another fingerprint or another dimension.
            DataError: an item is unknown, or a vector is not finite or not of unit norm. Nothing is written.
        """

    @abstractmethod
    def coverage(self, space: Space) -> tuple[int, int]:
        """Number of items with and without a current vector in the space; an unknown space has no vectors.

        Raises:
            SpaceError: a different space has this id.
        """

    @abstractmethod
    def missing(self, space_id: str, limit: int | None = None) -> list[str]:
        """Ids of items without a current vector in the space, in id order: the remaining work of a backfill."""

    @abstractmethod
    def vectors(self, space_id: str, ids: Sequence[str] | None = None) -> tuple[list[str], NDArray[np.float32]]:
        """Ids (in id order, or in the order given) and current vectors (N, d) of the items that have one."""

    @abstractmethod
    def stored(self, space_id: str) -> Iterator[tuple[list[str], list[str], NDArray[np.float32]]]:
        """All stored vectors, current or not, in blocks of ids, content hashes and vectors (N, d).

        This includes vectors of deleted or changed items, for a check of the whole store.
        """

    @abstractmethod
    def drop_embeddings(self, space_id: str, ids: Iterable[str]) -> int:
        """Remove the vectors of these ids from a space; the items stay. Returns the number of removed vectors."""

    @abstractmethod
    def maintain(self) -> None:
        """Maintenance that makes searches faster: compact storage and refresh indices. Safe at any time."""

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
        """The k nearest items of each query with their cosines, best first; ties in id order.

        A result has fewer than k items only if fewer pass the filters.

        Args:
            space: space of the queries; only its vectors are compared.
            queries: float (Q, d), unit rows.
            k: at least 1.
            labels: search only items with one of these labels.
            where: search only items whose metadata have all these values.
            without: ids of spaces; items with a current vector in one of them are left out.
            exact: compare every vector, even if there is an index.

        Raises:
            SpaceError: the space is unknown, has another fingerprint or another dimension.
            DataError: a query is not finite or not of unit norm.
        """


def unknown_space(space_id: str, known: Iterable[Space]) -> SpaceError:
    """The error for a space that does not exist in a store."""
    names = ", ".join(f"{space.id!r} ({space.generation})" for space in known) or "none"
    return SpaceError(f"no space {space_id!r} in this gallery; its spaces are: {names}. Embed with one of these.")


def same_space(space: Space, stored: Space) -> None:
    """Make sure that `space` equals the `stored` one.

    Raises:
        SpaceError: they differ; the message names both generations.
    """
    if stored != space:
        raise SpaceError(
            f"vectors of {space.generation} ({space.fingerprint[:12]}, dim {space.dim}) cannot be compared "
            f"with those stored in space {stored.id!r}: {stored.generation} ({stored.fingerprint[:12]}, "
            f"dim {stored.dim}); embed again with that {stored.generation}, or use a space with another id."
        )


def checked(vectors: ArrayLike, space: Space) -> NDArray[np.float32]:
    """`vectors` as float32 (N, d) in C order, after checking that they can be vectors of `space`.

    Raises:
        SpaceError: the shape is not (N, d).
        DataError: a vector is not finite, or not of unit norm.
    """
    array = np.ascontiguousarray(vectors, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != space.dim:
        raise SpaceError(
            f"vectors of shape {array.shape} are not vectors of {space.generation}, which have shape (N, {space.dim}); "
            f"embed again with {space.generation}."
        )
    norms = np.linalg.norm(array, axis=1)
    wrong = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))  # negated, so that NaN is wrong as well
    if wrong.size:
        row = wrong[0]
        raise DataError(f"vector {row} has norm {norms[row]:.4g}, not 1; divide it by its norm, or embed again.")
    return array


_OBJECT_STORAGE = ("s3", "gs", "az")


def open_store(url: str) -> Store:
    """The store at `url`, for instance `lancedb:///home/me/shop/gallery`. Nothing is opened before the first use.

    `s3://bucket/path`, `gs://…` and `az://…` are LanceDB in object storage.

    Raises:
        ConfigError: no store has this scheme, or the address is not valid for it.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ConfigError(f"{url!r} is not the address of a store; write it as lancedb:///path/of/the/folder.")
    if scheme in _OBJECT_STORAGE:
        scheme, url = "lancedb", f"lancedb://{url}"
    store: Store = plugins.load("stores", scheme, Store)(url)
    return store
