"""A gallery from one store to another: items, spaces and vectors in blocks, then both sides read again and compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from scrubjay.errors import CatalogueError
from scrubjay.progress import track
from scrubjay.stores import Item, Space, Store, same_space

_BLOCK = 4096
_MODULUS = 1 << 256


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy has moved, and whether both stores hold the same now.

    Attributes:
        items: how many.
        vectors: how many, by the id of their space.
        left_out: vectors that were not copied because they do not count in the source either, by the id of their
            space: of items that are gone, or of images that have changed.
        difference: the first thing that differs between the stores; None when they are equal.
    """

    items: int
    vectors: Mapping[str, int]
    left_out: Mapping[str, int]
    difference: str | None

    @property
    def equal(self) -> bool:
        """Whether both stores hold the same items, spaces and vectors."""
        return self.difference is None


@dataclass(frozen=True, slots=True)
class Sum:
    """What a number of rows come to, whatever their order.

    Attributes:
        count: how many.
        total: sum of their hashes modulo 2²⁵⁶.
        left_out: how many rows beside them do not count.
    """

    count: int
    total: int
    left_out: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Digest:
    """What a gallery holds.

    Attributes:
        items: of all fields of each.
        spaces: of the vectors that count, by space: of id, content hash and the bytes of float32.
    """

    items: Sum
    spaces: Mapping[Space, Sum]


def copy(source: Store, target: Store) -> Copied:
    """Copy all of a gallery. What the target has already is written again, so that a second run completes a first.

    Vectors are held a block at a time. A change of the source meanwhile is found by the comparison at the end.

    Args:
        source: read only.
        target: empty, or what an earlier copy of this source has left.

    Raises:
        CatalogueError: the target holds items or spaces that the source has not. Nothing is written.
        SpaceError: the target has another space under the id of one of the source's. Nothing is written.
    """
    _refuse_others(source, target)
    total = source.count()
    for block in _blocks(track(source.items(), "copying items", total)):
        target.put_items(block)
    for space in source.spaces():
        target.create_space(space)
        held, _ = source.coverage(space)
        for _ in track(_written(source, target, space), f"copying vectors of {space.generation}", held):
            pass
    here, there = digest(source), digest(target)
    return Copied(
        items=there.items.count,
        vectors={space.id: found.count for space, found in there.spaces.items()},
        left_out={space.id: found.left_out for space, found in here.spaces.items()},
        difference=_difference(here, there),
    )


def digest(store: Store) -> Digest:
    """The digest of all that a store holds, read in blocks."""
    items = _summed(_hash_of_item(item) for item in track(store.items(), "comparing items", store.count()))
    spaces = {}
    for space in store.spaces():
        held, _ = store.coverage(space)
        hashes = track(_hashes_of_vectors(store, space), f"comparing vectors of {space.generation}", held)
        spaces[space] = _summed(hashes)
    return Digest(items, spaces)


def _refuse_others(source: Store, target: Store) -> None:
    spaces = {space.id: space for space in source.spaces()}
    for space in target.spaces():
        if space.id not in spaces:
            raise CatalogueError(
                f"the target has a space {space.id!r} that the source has not; copy to an empty store."
            )
        same_space(spaces[space.id], space)
    other = next(_only_in_second(source, target), None)
    if other is not None:
        raise CatalogueError(f"the target holds {other!r}, which the source does not; copy to an empty store.")


def _only_in_second(first: Store, second: Store) -> Iterator[str]:
    """Ids of items of the second store that the first has not: both come in the order of their bytes."""
    ids = (item.id for item in first.items())
    current = next(ids, None)
    for item in second.items():
        while current is not None and current.encode() < item.id.encode():
            current = next(ids, None)
        if current != item.id:
            yield item.id


def _written(source: Store, target: Store, space: Space) -> Iterator[str]:
    """Write the vectors that count for the target's items, block by block; yields the id of each that is written."""
    for ids, contents, vectors in source.stored(space.id):
        rows = np.flatnonzero(_counting(target, ids, contents))
        names = [ids[row] for row in rows]
        target.put_embeddings(space, names, vectors[rows])
        yield from names


def _counting(store: Store, ids: Sequence[str], contents: Sequence[str]) -> list[bool]:
    """Whether the vectors of these ids, of these contents, are of items as they are now."""
    now = {item.id: item.content_hash for item in store.items(ids)}
    return [now.get(name) == content for name, content in zip(ids, contents, strict=True)]


def _hashes_of_vectors(store: Store, space: Space) -> Iterator[int | None]:
    """A hash for each vector of the space; None for one that does not count."""
    for ids, contents, vectors in store.stored(space.id):
        counting = _counting(store, ids, contents)
        for counts, *pair, row in zip(counting, ids, contents, vectors.astype("<f4"), strict=True):
            yield _hash(json.dumps(pair).encode() + row.tobytes()) if counts else None


def _hash_of_item(item: Item) -> int:
    fields = [item.id, item.uri, item.content_hash, item.label, dict(item.metadata)]
    return _hash(json.dumps(fields, sort_keys=True).encode())


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest(), "little")


def _summed(hashes: Iterable[int | None]) -> Sum:
    """Number and sum: a sum, unlike an exclusive or, also tells of what is there twice."""
    count, total, left_out = 0, 0, 0
    for value in hashes:
        if value is None:
            left_out += 1
        else:
            count, total = count + 1, (total + value) % _MODULUS
    return Sum(count, total, left_out)


def _difference(here: Digest, there: Digest) -> str | None:
    if here.items != there.items:
        return f"items: {_told(here.items, there.items)}"
    for space in here.spaces:
        if here.spaces[space] != there.spaces.get(space):
            return f"vectors of space {space.id!r}: {_told(here.spaces[space], there.spaces.get(space, Sum(0, 0)))}"
    return None


def _told(here: Sum, there: Sum) -> str:
    if here.count != there.count:
        return f"{here.count} in the source, {there.count} in the target; run it again when nobody writes"
    return f"{here.count} in both, but not the same; run it again when nobody writes"


def _blocks(items: Iterator[Item]) -> Iterator[list[Item]]:
    while block := list(islice(items, _BLOCK)):
        yield block
