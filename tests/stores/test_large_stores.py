"""What holds of every store when it answers by an index: some thousand items, compared with plain arrays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from stores_under_test import ADDRESS, ALONE, INDEXED, few_rows_are_many

from scrubjay.stores import Item, Space, Store, open_store

ROWS, DIM, CLASSES = 2500, 16, 25
G0 = Space("g0", DIM, "fingerprint-of-g0", "g0")
G1 = Space("g1", DIM, "fingerprint-of-g1", "g1")


class Large(NamedTuple):
    """A store, and what it should hold: rows that count, by number, of two spaces."""

    url: str
    vectors: np.ndarray
    queries: np.ndarray
    counting: np.ndarray
    other: np.ndarray

    def best(self, query: np.ndarray, passing: np.ndarray, k: int) -> list[str]:
        rows = np.flatnonzero(self.counting & passing)
        cosines = self.vectors[rows].astype(float) @ query.astype(float)
        return [name(rows[place]) for place in np.lexsort((rows, -cosines))[:k]]

    def recall(self, answers: list[list[tuple[Item, float]]], passing: np.ndarray, k: int) -> float:
        wanted = [self.best(query, passing, k) for query in self.queries]
        for answer in answers:
            assert len({item.id for item, _ in answer}) == len(answer)
            assert all((self.counting & passing)[int(item.id)] for item, _ in answer)
        found = [{item.id for item, _ in answer} for answer in answers]
        assert [len(mine) for mine in found] == [len(theirs) for theirs in wanted]
        return float(
            np.mean([len(mine & set(theirs)) / len(theirs) for mine, theirs in zip(found, wanted, strict=True)])
        )


def name(row: int) -> str:
    return f"{row:05d}"


def clustered(count: int, seed: int) -> np.ndarray:
    generator, centres = np.random.default_rng(seed), np.random.default_rng(9).standard_normal((CLASSES, DIM))
    vectors = centres[np.arange(count) % CLASSES] + 0.7 * generator.standard_normal((count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def item(row: int, content: str = "") -> Item:
    shop = {"shop": "rare" if row % 500 == 3 else "common"}
    return Item(name(row), name(row), content or f"hash of {row}", f"class {row % CLASSES}", shop)


def fill(store: Store, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.arange(ROWS)
    for space in (G0, G1):
        store.create_space(space)
    store.put_items(map(item, range(ROWS)))
    store.put_embeddings(G0, [name(row) for row in range(ROWS)], vectors)
    other = (numbers % CLASSES < 20) & (numbers % 50 != 7)  # whole classes, and not quite all of them
    store.put_embeddings(G1, [name(row) for row in np.flatnonzero(other)], vectors[other])
    store.maintain()
    gone, changed = numbers % 25 == 24, numbers % 10 == 1
    assert store.delete(name(row) for row in np.flatnonzero(gone)) == gone.sum()
    store.put_items(item(row, "retouched") for row in np.flatnonzero(changed))
    return ~gone & ~changed, other & ~gone & ~changed


@pytest.fixture(scope="module", params=INDEXED)
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Large]:
    with pytest.MonkeyPatch.context() as patch:
        few_rows_are_many(patch)
        url = ADDRESS[request.param](tmp_path_factory.mktemp("large"))
        store, vectors = open_store(url), clustered(ROWS, 0)
        counting, other = fill(store, vectors)
        yield Large(url, vectors, clustered(40, 1), counting, other)


@pytest.fixture
def store(large: Large) -> Store:
    return open_store(large.url)


EVERYTHING = np.ones(ROWS, dtype=bool)
NUMBERS = np.arange(ROWS)


@pytest.mark.parametrize("k", [1, 10, 200])
def test_an_index_finds_nearly_all(store: Store, large: Large, k: int) -> None:
    assert large.recall(store.search(G0, large.queries, k), EVERYTHING, k) >= 0.9


def test_an_exact_search_finds_all_in_order(store: Store, large: Large) -> None:
    for query, answer in zip(large.queries, store.search(G0, large.queries, 30, exact=True), strict=True):
        assert [item.id for item, _ in answer] == large.best(query, EVERYTHING, 30)


def test_cosines_are_exact_and_in_order(store: Store, large: Large) -> None:
    for query, answer in zip(large.queries, store.search(G0, large.queries, 10), strict=True):
        cosines = [
            float(np.vecdot(large.vectors[int(item.id)].astype(float), query.astype(float))) for item, _ in answer
        ]
        assert [score for _, score in answer] == pytest.approx(cosines, abs=1e-6)
        assert [score for _, score in answer] == sorted((score for _, score in answer), reverse=True)


def test_one_query_is_answered_like_many(store: Store, large: Large) -> None:
    assert store.search(G0, large.queries[:1], 10) == store.search(G0, large.queries, 10)[:1]
    assert store.search(G0, large.queries[:0], 10) == []


def test_filters_leave_as_many_as_there_are(store: Store, large: Large) -> None:
    label, rare = NUMBERS % CLASSES == 3, NUMBERS % 500 == 3
    cases = [(label, ["class 3"], None), (rare, None, {"shop": "rare"}), (label & rare, ["class 3"], {"shop": "rare"})]
    for passing, labels, where in cases:
        answers = store.search(G0, large.queries, 10, labels, where=where)
        assert large.recall(answers, passing, 10) >= 0.9
    assert store.search(G0, large.queries[:2], 10, ["nothing"]) == [[], []]


def test_items_of_another_space_are_left_out_however_many(store: Store, large: Large) -> None:
    answers = store.search(G0, large.queries, 10, without=["g1"])
    assert large.recall(answers, ~large.other, 10) >= 0.9
    assert store.search(G1, large.queries[:2], 10, without=["g0"]) == [[], []]


def test_more_than_there_are(store: Store, large: Large) -> None:
    (answer,) = store.search(G0, large.queries[:1], 10_000)
    assert [item.id for item, _ in answer] == large.best(large.queries[0], EVERYTHING, ROWS)


def test_what_is_held_and_what_is_missing(store: Store, large: Large) -> None:
    missing = [name(row) for row in np.flatnonzero(~large.counting & (NUMBERS % 25 != 24))]
    assert store.coverage(G0) == (large.counting.sum(), len(missing))
    assert store.missing("g0") == missing
    assert store.missing("g0", limit=3) == missing[:3]
    names, vectors = store.vectors("g0")
    assert names == [name(row) for row in np.flatnonzero(large.counting)]
    np.testing.assert_allclose(vectors, large.vectors[large.counting], atol=1e-6)
    names, vectors = store.vectors("g0", [name(7), "nobody", name(24), name(1), name(0)])
    assert names == [name(7), name(0)]
    np.testing.assert_allclose(vectors, large.vectors[[7, 0]], atol=1e-6)


WRITER = """
import sys
import numpy as np
from scrubjay.stores import Item, Space, open_store

store, space = open_store(sys.argv[1]), Space("g5", 8, "fingerprint", "g5")
store.create_space(space)
for batch in range(12):
    names = [f"w{batch:02d}-{row}" for row in range(8)]
    store.put_items(Item(name, name, name) for name in names)
    store.put_embeddings(space, names, np.eye(8, dtype=np.float32))
"""


def test_a_reader_beside_a_writing_process(request: pytest.FixtureRequest, large: Large, store: Store) -> None:
    kind = request.node.callspec.params["large"]
    if kind in ALONE:
        pytest.skip(ALONE[kind])
    space, seen = Space("g5", 8, "fingerprint", "g5"), [0]
    store.create_space(space)
    with subprocess.Popen([sys.executable, "-c", WRITER, large.url]) as process:
        running = True
        while running:
            running = process.poll() is None  # once more when it has ended
            found = [item.id for item, _ in store.search(space, np.eye(8, dtype=np.float32)[:1], 1000)[0]]
            assert len(set(found)) == len(found) >= seen[-1]
            assert len(store.search(G0, large.queries[:1], 10)[0]) == 10
            seen.append(len(found))
    assert process.returncode == 0
    assert seen[-1] == 96
    store.delete(found)
    store.drop_space("g5")
