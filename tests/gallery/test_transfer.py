from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

import postgres_server
from scrubjay.errors import CatalogueError, SpaceError, StorageError
from scrubjay.gallery.transfer import copy, digest
from scrubjay.stores import FeatureCodec, Item, Space, Store, open_store

G0 = Space("g0", 8, "fingerprint-of-g0", "g0")
G1 = Space("g1", 4, "fingerprint-of-g1", "g1")
HALF, BYTES = "ab" * 16, "cd" * 16
"""Eras whose features are stored as float16 and as int8."""
FEATURES = np.random.default_rng(7).standard_normal((64, 6)).astype(np.float32)
KINDS = ["lancedb", "postgresql", "qdrant"]
Make = Callable[[str], Store]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Returns a new empty store of the kind at each call."""
    number = iter(range(20))

    def empty(kind: str) -> Store:
        if kind == "postgresql":
            return open_store(postgres_server.url())
        return open_store(f"{kind}://{tmp_path}/{next(number)}")

    return empty


def unit(count: int, dim: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def filled(store: Store, count: int = 30) -> Store:
    """All items in G0, every third in G1, the first 20 with features; those of two items are stale, one was deleted."""
    items = [
        Item(f"ü{number:02d}", f"file:///{number}.jpg", f"h{number}", None if number % 4 else "jay", {"price": 0.1})
        for number in range(count)
    ]
    names = [item.id for item in items]
    store.put_items(items)
    for space, chosen in ((G0, names), (G1, names[::3])):
        store.create_space(space)
        store.put_embeddings(space, chosen, unit(len(chosen), space.dim))
    for era, codec in ((HALF, FeatureCodec.float16(6)), (BYTES, FeatureCodec.int8(FEATURES))):
        store.features.create(era, codec)
        store.features.put(era, names[:20], FEATURES[:20])
    store.put_items([Item(names[number], "file:///new.jpg", "another") for number in (1, 2)])
    store.delete([names[3]])
    return store


def test_a_gallery_copied_through_all_stores_comes_back_unchanged(make: Make) -> None:
    stores = [filled(make("lancedb")), *(make(kind) for kind in ("postgresql", "qdrant", "lancedb"))]
    for source, target in pairwise(stores):
        copied = copy(source, target)
        assert copied.equal, copied.difference
        assert (copied.items, copied.vectors) == (29, {"g0": 27, "g1": 9})
        assert copied.features == {HALF: 17, BYTES: 17}
    first, *_, last = stores
    assert list(first.items()) == list(last.items())
    assert first.spaces() == last.spaces()
    for space in (G0, G1):
        ids, vectors = first.vectors(space.id)
        found, same = last.vectors(space.id)
        assert ids == found
        np.testing.assert_array_equal(vectors.view(np.uint32), same.view(np.uint32))
    assert first.features.codecs() == last.features.codecs()
    for era in (HALF, BYTES):
        ids, features = first.features.read(era, [item.id for item in first.items()])
        found, same = last.features.read(era, [item.id for item in first.items()])
        assert ids == found
        np.testing.assert_array_equal(features, same)
    assert first.search(G0, unit(3, 8, seed=1), 9) == last.search(G0, unit(3, 8, seed=1), 9)


@pytest.mark.parametrize("kind", KINDS)
def test_invalid_vectors_are_not_copied_but_counted(make: Make, kind: str) -> None:
    source, target = filled(make(kind)), make(kind)
    copied = copy(source, target)
    stored = sum(len(ids) for ids, _, _ in source.stored("g0"))
    assert copied.left_out["g0"] == stored - 27 >= 2
    assert sum(len(ids) for ids, _, _ in target.stored("g0")) == 27
    assert target.missing("g0") == ["ü01", "ü02"]


class Dying:
    """A store that fails after some writes, like one whose process is killed."""

    def __init__(self, store: Store, writes: int) -> None:
        self._store, self._writes = store, writes

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def put_items(self, items: Sequence[Item]) -> None:
        self._write()
        self._store.put_items(items)

    def put_embeddings(self, space: Space, ids: Sequence[str], vectors: ArrayLike) -> None:
        self._write()
        self._store.put_embeddings(space, ids, vectors)

    def _write(self) -> None:
        self._writes -= 1
        if self._writes < 0:
            raise StorageError("killed")


@pytest.mark.parametrize("kind", ["postgresql", "qdrant"])
def test_a_copy_that_was_interrupted_is_completed_by_the_next(
    make: Make, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrubjay.gallery.transfer._BLOCK", 10)
    source, target = filled(make(kind)), make(kind)
    for writes in range(5):  # three blocks of items, one of vectors in each space
        with pytest.raises(StorageError, match="killed"):
            copy(source, Dying(target, writes))  # type: ignore[arg-type]
        assert digest(source) != digest(target)
    assert copy(source, target).equal
    assert copy(source, target).equal


KILLED = """
import os, signal, sys
from scrubjay.gallery import transfer as copying
from scrubjay.stores import open_store
source, target = map(open_store, sys.argv[1:3])
copying._BLOCK, left = 10, int(sys.argv[3])
class Target:
    def __getattr__(self, name):
        global left
        left -= name.startswith("put_")
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return getattr(target, name)
copying.copy(source, Target())
"""


@pytest.mark.parametrize(("kind", "writes"), [("postgresql", 2), ("lancedb", 4), ("qdrant", 4)])
def test_a_copy_whose_process_is_killed_is_completed_by_the_next(kind: str, writes: int, tmp_path: Path) -> None:
    source = f"lancedb://{tmp_path}/source"
    target = postgres_server.url() if kind == "postgresql" else f"{kind}://{tmp_path}/target"
    filled(open_store(source))
    command = [sys.executable, "-c", KILLED, source, target, str(writes)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    store = open_store(target)
    assert 0 < store.count() <= 29
    assert digest(store) != digest(open_store(source))
    assert copy(open_store(source), store).equal


@pytest.mark.parametrize("kind", ["postgresql", "qdrant"])
def test_a_target_with_foreign_content_is_refused_and_not_changed(make: Make, kind: str) -> None:
    source = filled(make(kind))
    target = make(kind)
    target.put_items([Item("ü05", "u", "h"), Item("theirs", "u", "h")])
    with pytest.raises(
        CatalogueError, match="the target holds the item 'theirs', which the source does not hold; copy to an empty"
    ):
        copy(source, target)
    assert (target.count(), target.spaces()) == (2, [])

    target = make(kind)
    target.create_space(Space("g1", 4, "another", "g1"))
    with pytest.raises(SpaceError, match=r"vectors of g1 .* cannot be compared .*'g1'"):
        copy(source, target)
    assert target.count() == 0

    for era, codec in (("ef" * 16, FeatureCodec.float16(6)), (HALF, FeatureCodec.int8(FEATURES))):
        target = make(kind)
        target.features.create(era, codec)
        with pytest.raises(
            CatalogueError, match=f"the target has features of era '{era}' that the source does not have"
        ):
            copy(source, target)
        assert target.count() == 0

    target = make(kind)
    target.create_space(Space("g7", 4, "f", "g7"))
    with pytest.raises(CatalogueError, match="a space 'g7' that the source does not have"):
        copy(source, target)
    assert target.count() == 0


def test_the_first_difference_is_reported(make: Make) -> None:
    source, target = filled(make("postgresql")), make("postgresql")

    class Losing(Dying):
        def put_embeddings(self, space: Space, ids: Sequence[str], vectors: ArrayLike) -> None:
            kept = slice(1, None) if space == G1 else slice(None)
            self._store.put_embeddings(space, ids[kept], np.asarray(vectors)[kept])

    copied = copy(source, Losing(target, 9))  # type: ignore[arg-type]
    assert not copied.equal
    assert copied.difference == "vectors of space 'g1': 9 in the source, 8 in the target"

    class Swapping(Dying):
        def put_embeddings(self, space: Space, ids: Sequence[str], vectors: ArrayLike) -> None:
            self._store.put_embeddings(space, ids, np.roll(vectors, 1, axis=0))

    copied = copy(source, Swapping(target, 9))  # type: ignore[arg-type]
    assert copied.difference == "vectors of space 'g0': 27 in both, but with different contents"
    assert copy(source, target).equal

    class Forgetful(Dying):
        """Loses the features that are written to it."""

        features = SimpleNamespace(
            create=target.features.create,
            codecs=target.features.codecs,
            stored=target.features.stored,
            put=lambda *_: 0,
        )

    target.features.remove(BYTES, ["ü05"])
    copied = copy(source, Forgetful(target, 9))  # type: ignore[arg-type]
    assert copied.difference == f"features of era '{BYTES}': 17 in the source, 16 in the target"
    assert copy(source, target).equal
    target.features.put(HALF, ["ü05"], FEATURES[:1])
    assert digest(source) != digest(target)
    assert copy(source, target).equal


def test_items_added_during_a_copy_are_copied_by_the_next(make: Make) -> None:
    source, target = filled(make("postgresql")), make("postgresql")

    class Growing(Dying):
        def put_items(self, items: Sequence[Item]) -> None:
            self._store.put_items(items)
            source.put_items([Item("new", "u", "h")])
            source.put_embeddings(G0, ["new"], unit(1, 8))

    copied = copy(source, Growing(target, 9))  # type: ignore[arg-type]
    assert copied.difference == "items: 30 in the source, 29 in the target"
    assert copy(source, target).equal


class Rows:
    """The part of a store that a digest reads, with rows in any order and blocks of any size."""

    def __init__(self, items: list[Item], vectors: np.ndarray, order: list[int], block: int) -> None:
        self._items = [items[place] for place in order]
        self._rows = [(items[place].id, items[place].content_hash, vectors[place]) for place in order]
        self._block = block

    def count(self) -> int:
        return len(self._items)

    def items(self, ids: Sequence[str] | None = None) -> Iterator[Item]:
        return (item for item in self._items if ids is None or item.id in ids)

    features = SimpleNamespace(codecs=dict)

    def spaces(self) -> list[Space]:
        return [G1]

    def coverage(self, space: Space) -> tuple[int, int]:
        return len(self._rows), 0

    def stored(self, space_id: str) -> Iterator[tuple[list[str], list[str], np.ndarray]]:
        for start in range(0, len(self._rows), self._block):
            ids, hashes, vectors = zip(*self._rows[start : start + self._block], strict=True)
            yield list(ids), list(hashes), np.stack(vectors)


@given(st.permutations(range(6)), st.integers(1, 6), st.integers(0, 5), st.integers(0, 3), st.integers(0, 31))
def test_a_digest_depends_on_every_bit_and_on_no_order(
    order: list[int], block: int, row: int, column: int, bit: int
) -> None:
    items = [Item(str(number), "u", f"h{number}") for number in range(6)]
    vectors = unit(6, 4)
    first = digest(Rows(items, vectors, list(range(6)), 6))  # type: ignore[arg-type]
    assert digest(Rows(items, vectors, order, block)) == first  # type: ignore[arg-type]
    changed = vectors.copy()
    changed.view(np.uint32)[row, column] ^= np.uint32(1 << bit)
    assert digest(Rows(items, changed, order, block)) != first  # type: ignore[arg-type]
    items[row] = Item(str(row), "u", f"h{row}", "label")
    assert digest(Rows(items, vectors, order, block)).items != first.items  # type: ignore[arg-type]
