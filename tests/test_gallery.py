from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scrubjay.errors import CatalogueError, ConfigError, DataError, SpaceError
from scrubjay.gallery import Gallery
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
    assert gallery.answering_space() == G0


def test_an_empty_gallery_and_k(gallery: Gallery) -> None:
    with pytest.raises(CatalogueError, match="add pictures first"):
        gallery.search(AXES[0], G0)
    gallery.add(items("apple"), AXES[:1], G0)
    gallery.delete(["apple"])
    with pytest.raises(CatalogueError, match="add pictures first"):
        gallery.search(AXES[0], G0)
    with pytest.raises(ConfigError, match="k = 0"):
        gallery.search(AXES[0], G0, k=0)


def test_a_foreign_space_is_refused_with_both_generations_and_the_cure(gallery: Gallery) -> None:
    gallery.add(items("apple", "banana", "cherry"), AXES[:3], G0)
    with pytest.raises(
        SpaceError, match=r"3 of 3 items have no vector of g1 .*; embed them again with g1, or .* with g0"
    ):
        gallery.search(AXES[0], G1)
    with pytest.raises(SpaceError, match=r"g1 .* g0"):
        gallery.search(AXES[0], Space("g0", 16, "fingerprint-1", "g1"))
    with pytest.raises(SpaceError, match=r"\(1, 4\)"):
        gallery.search(np.ones(4, np.float32) / 2, G0)


def test_only_a_space_with_every_item_answers(gallery: Gallery) -> None:
    three = items("apple", "banana", "cherry")
    assert gallery.answering_space() is None
    gallery.add(three, AXES[:3], G0)
    gallery.add(three[:2], AXES[3:5], G1)
    assert gallery.counts() == {"g0": 3, "g1": 2}
    assert gallery.complete_spaces() == [G0]
    with pytest.raises(SpaceError, match="1 of 3 items have no vector of g1"):
        gallery.search(AXES[3], G1)
    assert gallery.search(AXES[0], G0, 1)[0][0].generation == "g0"

    gallery.add(three[2:], AXES[5:6], G1)
    assert gallery.complete_spaces() == [G0, G1]
    assert gallery.answering_space() == G1
    assert [hit.id for hit in gallery.search(AXES[5], G1, 1)[0]] == ["cherry"]

    gallery.add(items("damson"), AXES[6:7], G1)
    assert gallery.answering_space() == G1
    with pytest.raises(SpaceError, match="1 of 4 items have no vector of g0"):
        gallery.search(AXES[0], G0)


def test_when_no_space_is_complete_the_error_counts_them(gallery: Gallery) -> None:
    gallery.add(items("apple", "banana"), AXES[:2], G0)
    gallery.add(items("cherry"), AXES[:1], G1)
    assert gallery.answering_space() is None
    with pytest.raises(SpaceError, match=r"1 of 3 .* g0 .*no generation has all \(g0: 2, g1: 1\)"):
        gallery.search(AXES[0], G0)


def test_the_tenth_generation_is_newer_than_the_ninth(gallery: Gallery) -> None:
    for number in (9, 10):
        gallery.add(items("apple"), AXES[:1], Space(f"g{number}", 16, f"f{number}", f"g{number}"))
    answering = gallery.answering_space()
    assert answering is not None
    assert answering.generation == "g10"
