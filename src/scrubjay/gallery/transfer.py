"""Copies a gallery from one store to another in blocks, then reads both stores and compares their contents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from scrubjay.errors import CatalogueError
from scrubjay.progress import track
from scrubjay.stores import FeatureCodec, Item, Space, Store, same_space

_BLOCK = 4096
_MODULUS = 1 << 256


@dataclass(frozen=True, slots=True)
class Copied:
    """The result of a copy.

    Attributes:
        items: number of items in the target.
        vectors: number of current vectors in the target, by the id of their space.
        left_out: number of vectors that were not copied because no search of the source finds them either, by the id
            of their space: their item was deleted, or its image has changed since.
        difference: the first difference between the stores; None where they are equal.
        features: number of items with current features in the target, by era.
    """

    items: int
    vectors: Mapping[str, int]
    left_out: Mapping[str, int]
    difference: str | None
    features: Mapping[str, int]

    @property
    def equal(self) -> bool:
        """Whether both stores hold the same items, vectors and features."""
        return self.difference is None


@dataclass(frozen=True, slots=True)
class Checksum:
    """A checksum of rows that does not depend on their order.

    Attributes:
        count: number of rows.
        total: sum of their hashes modulo 2²⁵⁶.
        left_out: number of further rows that are not current and not part of the sum.
    """

    count: int
    total: int
    left_out: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Digest:
    """Checksums of everything that a gallery holds.

    Attributes:
        items: checksum of the items, over all their fields.
        spaces: checksum of the current vectors of each space, over id, content hash and the bytes as float32.
        features: checksum of the current features of each era with its codec, over id, content hash and codes.
    """

    items: Checksum
    spaces: Mapping[Space, Checksum]
    features: Mapping[tuple[str, FeatureCodec], Checksum]


def copy(source: Store, target: Store) -> Copied:
    """Copy a whole gallery. Rows that the target already holds are written again, so a second run completes a first.

    Only one block of vectors is in memory at a time. If the source changes during the copy, the comparison at the end
    reports it.

    Args:
        source: the store to read from; it is not changed.
        target: the store to write to: empty, or filled by an earlier, interrupted copy of this source.

    Raises:
        CatalogueError: the target holds items, spaces or eras that the source does not hold. Nothing was written.
        SpaceError: the target has a different space under the id of one of the source's. Nothing was written.
    """
    _refuse_foreign_content(source, target)
    total = source.count()
    for block in _blocks(track(source.items(), "copying items", total)):
        target.put_items(block)
    for space in source.spaces():
        target.create_space(space)
        held, _ = source.coverage(space)
        for _ in track(_copy_vectors(source, target, space), f"copying vectors of {space.generation}", held):
            pass
    for era, codec in source.features.codecs().items():
        target.features.create(era, codec)
        for _ in track(_copy_features(source, target, era, codec), "copying features", total):
            pass
    source_digest, target_digest = digest(source), digest(target)
    return Copied(
        items=target_digest.items.count,
        vectors={space.id: checksum.count for space, checksum in target_digest.spaces.items()},
        left_out={space.id: checksum.left_out for space, checksum in source_digest.spaces.items()},
        difference=_difference(source_digest, target_digest),
        features={era: checksum.count for (era, _), checksum in target_digest.features.items()},
    )


def digest(store: Store) -> Digest:
    """Read a whole store, in blocks, and compute its checksums."""
    items = _checksum(_hash_of_item(item) for item in track(store.items(), "comparing items", store.count()))
    spaces = {}
    for space in store.spaces():
        held, _ = store.coverage(space)
        hashes = track(_hashes_of_vectors(store, space), f"comparing vectors of {space.generation}", held)
        spaces[space] = _checksum(hashes)
    features = {}
    for era, codec in store.features.codecs().items():
        hashes = track(_hashes_of_features(store, era, codec), "comparing features", store.count())
        features[era, codec] = _checksum(hashes)
    return Digest(items, spaces, features)


def _refuse_foreign_content(source: Store, target: Store) -> None:
    spaces = {space.id: space for space in source.spaces()}
    for space in target.spaces():
        if space.id not in spaces:
            raise CatalogueError(
                f"the target has a space {space.id!r} that the source does not have; copy to an empty store."
            )
        same_space(spaces[space.id], space)
    codecs = source.features.codecs()
    for era, codec in target.features.codecs().items():
        if codecs.get(era) != codec:
            raise CatalogueError(
                f"the target has features of era {era!r} that the source does not have or encodes otherwise; copy to "
                "an empty store."
            )
    foreign = next(_only_in_second(source, target), None)
    if foreign is not None:
        raise CatalogueError(
            f"the target holds the item {foreign!r}, which the source does not hold; copy to an empty store."
        )


def _only_in_second(first: Store, second: Store) -> Iterator[str]:
    """Ids of items that only the second store holds. Both stores yield items in the byte order of their ids."""
    ids = (item.id for item in first.items())
    current = next(ids, None)
    for item in second.items():
        while current is not None and current.encode() < item.id.encode():
            current = next(ids, None)
        if current != item.id:
            yield item.id


def _copy_vectors(source: Store, target: Store, space: Space) -> Iterator[str]:
    """Write the vectors that are current for the target's items, block by block; yields the id of each one written."""
    for ids, contents, vectors in source.stored(space.id):
        rows = np.flatnonzero(_are_current(target, ids, contents))
        names = [ids[row] for row in rows]
        target.put_embeddings(space, names, vectors[rows])
        yield from names


def _copy_features(source: Store, target: Store, era: str, codec: FeatureCodec) -> Iterator[str]:
    """Write the features that are current for the target's items; yields the id of each one written."""
    for ids, contents, codes in source.features.stored(era):
        rows = np.flatnonzero(_are_current(target, ids, contents))
        names = [ids[row] for row in rows]
        target.features.put(era, names, codec.decode(codes[rows]))
        yield from names


def _are_current(store: Store, ids: Sequence[str], contents: Sequence[str]) -> list[bool]:
    """For each vector, whether its item exists and still has the content hash that the vector was computed from."""
    hashes = {item.id: item.content_hash for item in store.items(ids)}
    return [hashes.get(name) == content for name, content in zip(ids, contents, strict=True)]


def _hashes_of_vectors(store: Store, space: Space) -> Iterator[int | None]:
    """A hash for each vector of the space; None for a vector that is not current."""
    for ids, contents, vectors in store.stored(space.id):
        flags = _are_current(store, ids, contents)
        for is_current, name, content, vector in zip(flags, ids, contents, vectors.astype("<f4"), strict=True):
            if is_current:
                yield _hash(json.dumps([name, content]).encode() + vector.tobytes())
            else:
                yield None


def _hashes_of_features(store: Store, era: str, codec: FeatureCodec) -> Iterator[int | None]:
    """A hash for each row of features of the era; None for a row that is not current."""
    for ids, contents, codes in store.features.stored(era):
        flags = _are_current(store, ids, contents)
        for is_current, name, content, row in zip(flags, ids, contents, codec.to_bytes(codes), strict=True):
            yield _hash(json.dumps([name, content]).encode() + row) if is_current else None


def _hash_of_item(item: Item) -> int:
    fields = [item.id, item.uri, item.content_hash, item.label, dict(item.metadata)]
    return _hash(json.dumps(fields, sort_keys=True).encode())


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest(), "little")


def _checksum(hashes: Iterable[int | None]) -> Checksum:
    """Number and sum of hashes. A sum, unlike an exclusive or, also reveals duplicate rows."""
    count, total, left_out = 0, 0, 0
    for value in hashes:
        if value is None:
            left_out += 1
        else:
            count, total = count + 1, (total + value) % _MODULUS
    return Checksum(count, total, left_out)


def _difference(source: Digest, target: Digest) -> str | None:
    """The first difference as text; None where both are equal."""
    if source.items != target.items:
        return f"items: {_described(source.items, target.items)}"
    for space, checksum in source.spaces.items():
        other = target.spaces.get(space)
        if checksum != other:
            return f"vectors of space {space.id!r}: {_described(checksum, other or Checksum(0, 0))}"
    for key, checksum in source.features.items():
        other = target.features.get(key)
        if checksum != other:
            return f"features of era {key[0]!r}: {_described(checksum, other or Checksum(0, 0))}"
    return None


def _described(source: Checksum, target: Checksum) -> str:
    if source.count != target.count:
        return f"{source.count} in the source, {target.count} in the target"
    return f"{source.count} in both, but with different contents"


def _blocks(items: Iterator[Item]) -> Iterator[list[Item]]:
    while block := list(islice(items, _BLOCK)):
        yield block
