from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrubjay.calibration import Calibration
from scrubjay.errors import CatalogueError, ConfigError, DataError, SpaceError
from scrubjay.gallery import Gallery, Leg
from scrubjay.stores import Item, Space, open_store
from scrubjay.types import Hit

G0 = Space("g0", 16, "fingerprint-0", "g0")
G1 = Space("g1", 16, "fingerprint-1", "g1")
AXES = np.eye(16, dtype=np.float32)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(open_store(f"lancedb://{tmp_path}/gallery"))


def items(*names: str) -> list[Item]:
    return [Item(name, f"{name}.jpg", f"hash-{name}", name[0], {"page": 3}) for name in names]


def test_what_is_added_is_found(gallery: Gallery) -> None:
    gallery.add(items("apple", "banana"), AXES[:2], G0)
    query = (0.8 * AXES[1] + 0.6 * AXES[0]).astype(np.float32)
    (hits,) = gallery.search(query, G0, k=9)
    assert hits == [
        Hit("banana", "banana.jpg", "b", pytest.approx(0.8), "g0", {"page": 3}),
        Hit("apple", "apple.jpg", "a", pytest.approx(0.6), "g0", {"page": 3}),
    ]
    assert [[hit.id for hit in hits] for hits in gallery.search(AXES[:2], G0, 1)] == [["apple"], ["banana"]]
    assert [hit.id for hit in gallery.search(query, G0, labels=["a"])[0]] == ["apple"]


def test_adding_twice_and_deleting(gallery: Gallery) -> None:
    for _ in range(2):
        gallery.add(items("apple", "banana", "apple"), AXES[[0, 1, 0]], G0)
    assert gallery.count() == 2
    assert gallery.delete(["apple"]) == 1
    assert [hit.id for hit in gallery.search(AXES[0], G0)[0]] == ["banana"]
    assert gallery.counts() == {"g0": 1}


def test_a_refused_addition_leaves_no_item(gallery: Gallery) -> None:
    gallery.add(items("apple"), AXES[:1], G0)
    with pytest.raises(DataError, match="norm"):
        gallery.add(items("banana"), 2 * AXES[:1], G0)
    with pytest.raises(DataError, match="2 items with 1 vectors"):
        gallery.add(items("banana", "cherry"), AXES[:1], G0)
    with pytest.raises(SpaceError, match=r"g2 .*g0"):
        gallery.add(items("banana"), AXES[:1], Space("g0", 16, "other", "g2"))
    assert gallery.count() == 1
    assert gallery.store.spaces() == [G0]


def test_an_empty_gallery_and_k(gallery: Gallery) -> None:
    with pytest.raises(CatalogueError, match="add pictures first"):
        gallery.search(AXES[0], G0)
    gallery.add(items("apple"), AXES[:1], G0)
    gallery.delete(["apple"])
    with pytest.raises(CatalogueError, match="add pictures first"):
        gallery.search(AXES[0], G0)
    with pytest.raises(ConfigError, match="k = 0"):
        gallery.search(AXES[0], G0, k=0)


def test_a_foreign_space_is_refused(gallery: Gallery) -> None:
    gallery.add(items("apple", "banana", "cherry"), AXES[:3], G0)
    with pytest.raises(SpaceError, match=r"no item has a vector in the spaces asked for \(g1\); .* has: 'g0'"):
        gallery.search(AXES[0], G1)
    with pytest.raises(SpaceError, match=r"g1 .* g0"):
        gallery.search(AXES[0], Space("g0", 16, "fingerprint-1", "g1"))
    with pytest.raises(SpaceError, match=r"\(1, 4\)"):
        gallery.search(np.ones(4, np.float32) / 2, G0)


def test_items_without_any_vector_are_counted(gallery: Gallery) -> None:
    assert gallery.unembedded() == 0
    three = items("apple", "banana", "cherry")
    gallery.store.put_items(three)
    assert gallery.unembedded() == 3
    gallery.add(three[:1], AXES[:1], G0)
    gallery.add(three[1:2], AXES[1:2], G1)
    assert gallery.unembedded() == 1
    assert gallery.counts() == {"g0": 1, "g1": 1}
    gallery.add(three[2:], AXES[2:3], G1)
    assert gallery.unembedded() == 0


def legs(*calibrations: Calibration | None) -> list[Leg]:
    return [Leg(space, AXES[:2], calibration) for space, calibration in zip((G1, G0), calibrations, strict=True)]


def test_each_item_is_compared_where_it_is_preferred(gallery: Gallery) -> None:
    gallery.add(items("apple", "banana"), AXES[[1, 0]], G0)
    gallery.add(items("apple"), AXES[[0]], G1)
    steep, flat = Calibration(10, -5), Calibration(2, -1)
    first, second = gallery.search_mixed(legs(steep, flat), 5)
    assert [(hit.id, hit.generation, hit.score) for hit in first] == [("apple", "g1", 1.0), ("banana", "g0", 1.0)]
    assert [hit.match for hit in first] == [pytest.approx(1 / (1 + np.exp(-5))), pytest.approx(1 / (1 + np.exp(-1)))]
    assert [(hit.id, hit.score) for hit in second] == [("banana", 0.0), ("apple", 0.0)]
    assert [hit.id for hit in gallery.search_mixed(legs(steep, flat), 5, ["b"])[0]] == ["banana"]
    assert gallery.search_mixed(legs(steep, flat), 5, where={"page": 4}) == [[], []]


def test_several_spaces_need_calibrations_and_one_does_not(gallery: Gallery) -> None:
    gallery.add(items("apple", "banana"), AXES[:2], G0)
    gallery.add(items("apple"), AXES[:1], G1)
    with pytest.raises(SpaceError, match="calibration"):
        gallery.search_mixed(legs(None, Calibration()), 5)
    gallery.add(items("banana"), AXES[1:2], G1)
    first, _ = gallery.search_mixed(legs(None, None), 5)  # the first space has all: the second is not looked at
    assert {hit.generation for hit in first} == {"g1"}
    assert first[0].match is None


def test_leg_order_wins_over_generation_number(gallery: Gallery) -> None:
    gallery.add(items("apple"), AXES[:1], G0)
    gallery.add(items("apple"), AXES[1:2], G1)
    back = [Leg(G0, AXES[:1], None), Leg(G1, AXES[:1], None)]
    assert gallery.search_mixed(back)[0][0].generation == "g0"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    held=st.lists(st.sampled_from(["both", "old", "new", "none"]), min_size=1, max_size=9),
    deleted=st.sets(st.integers(0, 8)),
    k=st.integers(1, 10),
    seed=st.integers(0, 99),
)
def test_a_mixed_search_is_a_search_over_the_best_vector_of_each_item(
    tmp_path_factory: pytest.TempPathFactory, held: list[str], deleted: set[int], k: int, seed: int
) -> None:
    gallery = Gallery(open_store(f"lancedb://{tmp_path_factory.mktemp('mixed')}/gallery"))
    rng = np.random.default_rng(seed)
    names = [f"item{number}" for number in range(len(held))]
    vectors = {space: _unit(rng.normal(size=(len(held), 16))) for space in (G0, G1)}
    gallery.store.put_items(items(*names))
    for space, words in ((G0, ("both", "old")), (G1, ("both", "new"))):
        rows = [row for row, word in enumerate(held) if word in words]
        gallery.add([items(names[row])[0] for row in rows], vectors[space][rows].reshape(-1, 16), space)
    gallery.delete([names[number] for number in deleted if number < len(names)])
    queries = {space: _unit(rng.normal(size=(3, 16))) for space in (G0, G1)}
    lines = {G1: Calibration(8, -3), G0: Calibration(5, -1)}
    expected = []
    for query in range(3):
        scored = []
        for row, word in enumerate(held):
            if word == "none" or row in deleted:
                continue
            space = G0 if word == "old" else G1
            cosine = float(queries[space][query].astype(np.float64) @ vectors[space][row].astype(np.float64))
            scored.append((-float(lines[space](cosine)), names[row]))
        expected.append([name for _, name in sorted(scored)[:k]])
    if not any(expected):
        return
    found = gallery.search_mixed([Leg(space, queries[space], lines[space]) for space in (G1, G0)], k)
    assert [[hit.id for hit in hits] for hits in found] == expected


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
