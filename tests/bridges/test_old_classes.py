"""Selection of a bridge, and its effect on classes of which no image is available."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from scrubjay.bridges import Bridge, PairedEmbeddings, choose
from scrubjay.bridges._paired import reciprocal_ranks, retrieval_scores
from tiny import retrieval_by_loops

DIM = 12


def unit(array: NDArray[np.floating]) -> NDArray[np.float32]:
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)


class World:
    """Classes as clusters in the space of one network, and a linear map of it as the space of another network."""

    def __init__(self, change: float, seed: int = 0, dim: int = DIM) -> None:
        rng = np.random.default_rng(seed)
        self.rng, self.means = rng, rng.standard_normal((40, dim))
        self.A = np.eye(dim) + change * rng.standard_normal((dim, dim)) / dim**0.5

    def seen(self, classes: range, each: int) -> PairedEmbeddings:
        labels = np.repeat(np.array(classes, dtype=np.int64), each)
        target = unit(self.means[labels] + 0.5 * self.rng.standard_normal((len(labels), self.means.shape[1])))
        return PairedEmbeddings(unit(target @ self.A.T), target, labels)

    def nothing(self) -> PairedEmbeddings:
        return self.seen(range(0), 0)


def map_at_r(bridge: Bridge, asked: PairedEmbeddings, gallery: PairedEmbeddings) -> float:
    return retrieval_scores(bridge(asked.source), asked, gallery)["map_at_r"]


IDENTITY = Bridge("identity")


def test_figures_by_loops() -> None:
    world = World(0.8)
    pairs = world.seen(range(5), 4)
    mapped = unit(world.rng.standard_normal((20, DIM)))
    queries = [(mapped[i], int(pairs.labels[i]), i) for i in range(20)]
    items = [(pairs.target[i], int(pairs.labels[i]), i) for i in range(20)]
    figures, loops = retrieval_scores(mapped, pairs), retrieval_by_loops(queries, items)
    assert figures["map_at_r"] == pytest.approx(loops["map_at_r"])
    assert figures["recall@1"] == pytest.approx(loops["recall@1"])
    assert figures["cosine"] == pytest.approx(float(np.mean([mapped[i] @ pairs.target[i] for i in range(20)])))
    ranks = [sorted(-float(mapped[i] @ z) for z in pairs.target) for i in range(20)]
    own = [1 + ranks[i].index(-float(mapped[i] @ pairs.target[i])) for i in range(20)]
    assert reciprocal_ranks(mapped, pairs.target, pairs.target).tolist() == pytest.approx([1 / rank for rank in own])


@pytest.mark.parametrize("held", [0, 5])
def test_old_classes_gain_from_a_bridge_selected_by_new_ones(held: int) -> None:
    world = World(1.0)
    new, aside = world.seen(range(20, 40), 10), world.seen(range(20, 40), held)
    gallery, asked = world.seen(range(20), 10), world.seen(range(20), 5)
    choice = choose(new, aside)
    assert choice.bridge.kind != "identity"
    assert map_at_r(choice.bridge, asked, gallery) > map_at_r(IDENTITY, asked, gallery) + 0.05


def test_a_change_of_the_new_classes_only_is_not_applied_to_old_ones() -> None:
    """The old network confuses the new classes, so a map fitted to them carries no information about others."""
    world = World(0.0)
    new = world.seen(range(20, 30), 10)
    target = unit(new.target + 2 * world.rng.standard_normal((10, DIM)).repeat(10, axis=0))
    asked, gallery = world.seen(range(20), 5), world.seen(range(20), 10)
    bridge = choose(PairedEmbeddings(new.source, target, new.labels), world.nothing()).bridge
    assert map_at_r(bridge, asked, gallery) > map_at_r(IDENTITY, asked, gallery) - 0.02


def test_items_of_the_gallery_are_used_for_the_fit_and_the_selection() -> None:
    """New classes span a few dimensions and carry no information about the others, in which old classes have moved."""
    world = World(1.2, seed=3)
    world.means[20:, 4:] *= 0.05
    new, gallery, asked = world.seen(range(20, 30), 10), world.seen(range(20), 10), world.seen(range(20), 5)
    sample = world.seen(range(20), 6)
    without, with_items = choose(new, world.nothing()), choose(new, world.nothing(), sample=sample)
    assert map_at_r(with_items.bridge, asked, gallery) > map_at_r(without.bridge, asked, gallery)
    figures = with_items.figures
    assert figures[with_items.bridge.kind]["sample_map_at_r"] >= figures["identity"]["sample_map_at_r"]


def test_reversing_swaps_source_and_target() -> None:
    pairs = World(0.5).seen(range(3), 2)
    back = pairs.reversed()
    assert back.source is pairs.target
    assert back.target is pairs.source
    assert back.reversed().labels is pairs.labels
