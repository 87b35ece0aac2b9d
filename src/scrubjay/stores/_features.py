"""Trunk features of items: a table for each era, from which a new metric embeds the items without their images."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrubjay.errors import ConfigError, DataError, SpaceError
from scrubjay.stores._feature_codec import Codes, FeatureCodec

LARGEST = 8192
"""Largest number of channels of the features."""

Block = tuple[list[str], list[str], Codes]


class FeatureStore(ABC):
    """Trunk features of a store's items, for any number of eras.

    An era identifies the trunk and the preparation of its images: features of equal eras are comparable. The features
    of an item are current while the item exists with the content that they were computed from; others are ignored.
    They can be written and read by id, not searched. Ids are ordered by their UTF-8 bytes. Every method raises
    `StorageError` when the disk is full or the stored data cannot be read.
    """

    @abstractmethod
    def create(self, era: str, codec: FeatureCodec) -> None:
        """Register an era; has no effect if it exists, and then its codec stays.

        Raises:
            ConfigError: the name of the era is not valid, or the features have too many channels.
        """

    @abstractmethod
    def codecs(self) -> dict[str, FeatureCodec]:
        """The codec of each era, by era."""

    @abstractmethod
    def drop(self, era: str) -> None:
        """Remove an era and all its features; the items stay. An unknown era is ignored."""

    @abstractmethod
    def missing(self, era: str, limit: int | None = None) -> list[str]:
        """Ids of items without current features of the era, in id order.

        Raises:
            SpaceError: the era is unknown.
        """

    @abstractmethod
    def stored(self, era: str) -> Iterator[Block]:
        """All stored features, current or not, in blocks of ids, content hashes and codes (N, p).

        Raises:
            SpaceError: the era is unknown.
        """

    @abstractmethod
    def remove(self, era: str, ids: Iterable[str]) -> int:
        """Remove the features of these ids from an era; the items stay. Returns the number of removed rows.

        Raises:
            SpaceError: the era is unknown.
        """

    @abstractmethod
    def _write(self, era: str, ids: list[str], codes: Codes) -> None:
        """Write the codes (N, p) of N different ids in one commit.

        Raises:
            DataError: an item is unknown. Nothing is written.
        """

    @abstractmethod
    def _read(self, era: str, ids: Sequence[str]) -> tuple[list[str], Codes]:
        """Ids and codes of those items, in any order, that have current features."""

    def put(self, era: str, ids: Sequence[str], values: ArrayLike) -> int:
        """Write the features (N, p) of existing items in one commit; existing features are replaced.

        Returns:
            Number of values that were beyond the range of the codec and were clipped to it.

        Raises:
            SpaceError: the era is unknown, or the features have another number of channels.
            DataError: an item is unknown, or a feature is not finite. Nothing is written.
        """
        codec = self.codec(era)
        array = checked_features(values, codec)
        if len(ids) != len(array):
            raise DataError(f"{len(ids)} ids for the features of {len(array)} images; give one id for each.")
        codes, clipped = codec.encode(array)
        last = {name: row for row, name in enumerate(ids)}
        if last:
            self._write(era, list(last), codes[list(last.values())])
        return int(clipped.sum())

    def read(self, era: str, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Ids, in the order given, and features float32 (N, p) of the items that have current ones.

        Raises:
            SpaceError: the era is unknown.
        """
        codec = self.codec(era)
        names, codes = self._read(era, ids)
        position = {name: row for row, name in enumerate(names)}
        found = [name for name in ids if name in position]
        return found, codec.decode(codes[[position[name] for name in found]])

    def codec(self, era: str) -> FeatureCodec:
        """The codec of an era.

        Raises:
            SpaceError: the era is unknown.
        """
        codecs = self.codecs()
        if era not in codecs:
            known = ", ".join(sorted(codecs)) or "none"
            raise SpaceError(f"no features of era {era!r} in this gallery; it has: {known}. Embed from images.")
        return codecs[era]


def checked_features(values: ArrayLike, codec: FeatureCodec) -> NDArray[np.float32]:
    """`values` as float32 (N, p), after checking that they can be features of the codec's era.

    Raises:
        SpaceError: the shape is not (N, p).
        DataError: a feature is not finite.
    """
    array = np.ascontiguousarray(values, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != codec.dim:
        raise SpaceError(
            f"features of shape {array.shape} in an era whose features have shape (N, {codec.dim}); they are of "
            "another trunk: compute them again."
        )
    wrong = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if wrong.size:
        raise DataError(f"the features of image {wrong[0]} are not finite; the weights of the trunk are damaged.")
    return array


def checked_era(era: str, codec: FeatureCodec) -> None:
    """Make sure that an era can be registered.

    Raises:
        ConfigError: its name is not valid, or the features have too many channels.
    """
    if not re.fullmatch(r"[0-9a-f]{1,32}", era):
        raise ConfigError(f"era {era!r}: use 1 to 32 hexadecimal digits.")
    if not 1 <= codec.dim <= LARGEST:
        raise ConfigError(
            f"era {era!r}: features with {codec.dim} channels; a gallery stores 1 to {LARGEST}: take fewer stages."
        )


def unknown_items(ids: Iterable[str], known: Iterable[str]) -> None:
    """Make sure that all items exist.

    Raises:
        DataError: an item is unknown.
    """
    held = set(known)
    unknown = [name for name in ids if name not in held]
    if unknown:
        raise DataError(f"no item {unknown[0]!r} ({len(unknown)} such ids); put the items before their features.")
