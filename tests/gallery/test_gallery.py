from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrubjay.errors import CatalogueError, ConfigError, DataError, SpaceError
from scrubjay.gallery.calibration import Calibration, probability
from scrubjay.gallery.gallery import Gallery, SpaceQuery
from scrubjay.stores import Item, Space, open_store
from scrubjay.types import Hit

G0 = Space("g0", 16, "fingerprint-0", "g0")
G1 = Space("g1", 16, "fingerprint-1", "g1")
G2 = Space("g2", 8, "fingerprint-2", "g2")
AXES = np.eye(16, dtype=np.float32)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(open_store(f"lancedb://{tmp_path}/gallery"))


def items(*names: str) -> list[Item]:
    return [Item(name, f"{name}.jpg", f"hash-{name}", name[0], {"page": 3}) for name in names]


def between(first: int, second: int, cosine: float) -> np.ndarray:
    """A unit vector at a cosine to one axis, the rest of it along another."""
    return (cosine * AXES[first] + np.sqrt(1 - cosine**2) * AXES[second]).astype(np.float32)


def test_what_is_added_is_found(gallery: Gallery) -> None:
    gallery.add(items("apple", "banana"), AXES[:2], G0)
    query = between(1, 0, 0.8)
    (hits,) = gallery.search(query, G0, k=9)
    assert hits == [
        Hit("banana", "banana.jpg", "b", pytest.approx(0.8), "g0", {"page": 3}),
        Hit("apple", "apple.jpg", "a", pytest.approx(0.6), "g0", {"page": 3}),
    ]
    assert [[hit.id for hit in hits] for hits in gallery.search(AXES[:2], G0, 1)] == [["apple"], ["banana"]]
    assert [hit.id for hit in gallery.search(query, G0, labels=["a"])[0]] == ["apple"]
    assert gallery.search(query, G0, where={"page": 4}) == [[]]


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


def test_an_empty_gallery_and_k(gallery: Gallery) -> None:
    with pytest.raises(CatalogueError, match="add images first"):
        gallery.search(AXES[0], G0)
    gallery.add(items("apple"), AXES[:1], G0)
    gallery.delete(["apple"])
    with pytest.raises(CatalogueError, match="add images first"):
        gallery.search(AXES[0], G0)
    with pytest.raises(ConfigError, match="k = 0"):
        gallery.search(AXES[0], G0, k=0)


def test_a_foreign_space_is_refused(gallery: Gallery) -> None:
    gallery.add(items("apple", "banana", "cherry"), AXES[:3], G0)
    with pytest.raises(SpaceError, match=r"no item has a vector in the spaces asked for \(g1\).*'g0'"):
        gallery.search(AXES[0], G1)
    with pytest.raises(SpaceError, match=r"g1 .* g0"):
        gallery.search(AXES[0], Space("g0", 16, "fingerprint-1", "g1"))
    with pytest.raises(SpaceError, match=r"\(1, 4\)"):
        gallery.search(np.ones(4, np.float32) / 2, G0)


def test_an_item_is_found_by_the_first_leg_that_holds_it(gallery: Gallery) -> None:
    gallery.add(items("apple", "banana", "cherry"), AXES[:3], G0)
    gallery.add(items("apple"), AXES[5:6], G1)
    line = Calibration(10.0, -5.0)
    legs = [SpaceQuery(G1, between(5, 6, 0.5)[None], line), SpaceQuery(G0, between(0, 1, 0.9)[None], line)]
    (hits,) = gallery.search_mixed(legs, 9)
    assert [(hit.id, hit.generation) for hit in hits] == [("apple", "g1"), ("banana", "g0"), ("cherry", "g0")]
    assert hits[0].score == pytest.approx(0.5)
    assert hits[0].match == pytest.approx(float(probability(line(0.5))))
    gallery.delete(["apple"])
    assert [hit.id for hit in gallery.search_mixed(legs, 9)[0]] == ["banana", "cherry"]


def test_lists_are_merged_by_calibrated_scores_and_not_by_cosines(gallery: Gallery) -> None:
    gallery.add(items("apple"), AXES[:1], G0)
    gallery.add(items("banana"), AXES[:1], G1)
    low = [
        SpaceQuery(G1, between(0, 1, 0.6)[None], Calibration(10.0, -5.0)),
        SpaceQuery(G0, between(0, 1, 0.4)[None], Calibration(10.0, -2.0)),
    ]
    assert [hit.id for hit in gallery.search_mixed(low)[0]] == ["apple", "banana"]
    with pytest.raises(SpaceError, match="give a calibration for each space"):
        gallery.search_mixed([SpaceQuery(leg.space, leg.vectors, None) for leg in low])


def test_of_equal_scores_the_earlier_leg_comes_first_and_then_the_smaller_id(gallery: Gallery) -> None:
    gallery.add(items("cherry", "apple", "fig"), AXES[[0, 0, 0]], G0)
    gallery.add(items("damson", "banana"), AXES[[0, 0]], G1)
    legs = [SpaceQuery(space, AXES[:1], Calibration()) for space in (G1, G0)]
    assert [hit.id for hit in gallery.search_mixed(legs, 4)[0]] == ["banana", "damson", "apple", "cherry"]


def test_a_leg_that_holds_every_item_is_a_plain_search(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery.add(items("apple", "banana"), AXES[:2], G0)
    gallery.add(items("apple", "banana"), AXES[2:4], G1)
    searched, search = [], gallery.store.search

    def noted(space: Space, *args: object, **options: object) -> object:
        searched.append((space.id, options["without"]))
        return search(space, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(gallery.store, "search", noted)
    legs = [
        SpaceQuery(G2, np.eye(8, dtype=np.float32)[:1], None),
        SpaceQuery(G1, AXES[2:3], None),
        SpaceQuery(G0, AXES[:1], None),
    ]
    assert gallery.search_mixed(legs, 1)[0][0].generation == "g1"
    assert searched == [("g1", [])]


def test_the_order_of_the_legs_counts_and_not_the_generation(gallery: Gallery) -> None:
    gallery.add(items("apple"), AXES[:1], G0)
    gallery.add(items("apple"), AXES[1:2], G1)
    back = [SpaceQuery(G0, AXES[:1], None), SpaceQuery(G1, AXES[:1], None)]
    assert gallery.search_mixed(back)[0][0].generation == "g0"


def test_legs_of_different_queries_are_refused(gallery: Gallery) -> None:
    gallery.add(items("apple"), AXES[:1], G0)
    with pytest.raises(DataError, match=r"\[1, 2\] queries"):
        gallery.search_mixed([SpaceQuery(G1, AXES[:2], None), SpaceQuery(G0, AXES[:1], None)])


def test_items_that_no_search_finds_are_counted(gallery: Gallery) -> None:
    assert gallery.unembedded() == 0
    gallery.store.put_items(items("elder", "fig"))
    assert gallery.unembedded() == 2
    gallery.add(items("apple", "banana"), AXES[:2], G0)
    gallery.add(items("cherry"), AXES[:1], G1)
    assert gallery.unembedded() == 2
    assert gallery.unembedded([G1]) == 4
    assert gallery.unembedded([G2]) == 5
    gallery.add(items("elder", "fig"), AXES[:2], G1)
    assert gallery.unembedded() == 0
    gallery.add(items("cherry", "elder", "fig"), AXES[:3], G0)
    assert gallery.unembedded([G0, G2]) == 0


def test_counts_are_by_generation(gallery: Gallery) -> None:
    for number in (9, 10):
        gallery.add(items("apple"), AXES[:1], Space(f"g{number}", 16, f"f{number}", f"g{number}"))
    gallery.add(items("banana"), AXES[:1], Space("g9", 16, "f9", "g9"))
    assert list(gallery.counts().items()) == [("g9", 2), ("g10", 1)]


LINES = (Calibration(8.0, -3.0), Calibration(12.0, -5.0), Calibration(20.0, -5.0))
NAMES = [f"{letter}{number}" for letter in "abc" for number in range(4)]
SPACES = (G1, G0, G2)


def by_loops(
    vectors: dict[str, dict[str, np.ndarray]], queries: list[np.ndarray], names: list[str], query: int
) -> list[tuple[str, str, float]]:
    """Every item in the first space that has it; best first, then the earlier leg, then the smaller id."""
    found = []
    for name in names:
        for leg, space in enumerate(SPACES):
            if name in vectors[space.id]:
                cosine = float(
                    np.dot(vectors[space.id][name].astype(np.float64), queries[leg][query].astype(np.float64))
                )
                found.append((-(LINES[leg].slope * cosine + LINES[leg].offset), leg, name, space.generation, cosine))
                break
    return [(name, generation, cosine) for _, _, name, generation, cosine in sorted(found)]


@settings(max_examples=15, deadline=None)
@given(
    st.dictionaries(st.sampled_from(NAMES), st.sets(st.sampled_from(range(3))), min_size=2),
    st.sets(st.sampled_from(NAMES), max_size=4),
    st.integers(1, 15),
    st.sampled_from([None, ["a"], ["a", "c"]]),
    st.integers(0, 999),
)
def test_any_coverage_is_searched_as_by_loops(
    coverage: dict[str, set[int]], deleted: set[str], k: int, labels: list[str] | None, seed: int
) -> None:
    draw = np.random.default_rng(seed)

    def drawn(space: Space, number: int) -> np.ndarray:
        rows = draw.integers(-1, 2, (number, space.dim)) + 0.5  # few values: equal vectors, equal scores
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    vectors: dict[str, dict[str, np.ndarray]] = {space.id: {} for space in SPACES}
    queries = [drawn(space, 2) for space in SPACES]
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery(open_store(f"lancedb://{folder}/gallery"))
        gallery.store.put_items(items(*coverage))
        for position, space in enumerate(SPACES):
            held = sorted(name for name, spaces in coverage.items() if position in spaces)
            rows = drawn(space, len(held))
            if held:
                gallery.add(items(*held), rows, space)
            vectors[space.id] = dict(zip(held, rows, strict=True))
        gallery.delete(deleted)
        left = [name for name in coverage if name not in deleted]
        assert gallery.unembedded() == sum(not coverage[name] for name in left)
        legs = [SpaceQuery(space, asked, line) for space, asked, line in zip(SPACES, queries, LINES, strict=True)]
        if not any(coverage[name] for name in left):
            with pytest.raises((CatalogueError, SpaceError)):
                gallery.search_mixed(legs, k, labels)
            return
        found = gallery.search_mixed(legs, k, labels)
    wanted = [name for name in left if labels is None or name[0] in labels]
    for query, hits in enumerate(found):
        expected = by_loops(vectors, queries, wanted, query)[:k]
        assert [(hit.id, hit.generation) for hit in hits] == [each[:2] for each in expected]
        assert [hit.score for hit in hits] == pytest.approx([each[2] for each in expected])
        matches = [hit.match for hit in hits]
        assert all(match is not None and 0 <= match <= 1 for match in matches)
        assert matches == sorted(matches, reverse=True)
