"""The bridge that is chosen is never below the identity, and is the one that old classes need."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import tiny
from scrubjay.bridges import Bridge, Choice, PairedEmbeddings, choose, fit
from scrubjay.errors import DataError

D = 8
Vectors = NDArray[np.float32]


def unit(vectors: NDArray[np.floating]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def world(
    W: NDArray[np.floating], *, classes: int = 6, each: int = 6, noise: float = 0.05, seed: int = 0, first: int = 0
) -> PairedEmbeddings:
    """Images of the classes from `first` on; the vectors of the second network are those of the first, mapped by W."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(first, first + classes), each)
    centres = np.random.default_rng(99).standard_normal((100, D))
    source = unit(centres[labels] + 0.4 * rng.standard_normal((len(labels), D)))
    target = unit(source @ W.T + noise * rng.standard_normal((len(labels), W.shape[0])))
    return PairedEmbeddings(source, target, labels.astype(np.int64))


def rotation(seed: int = 3) -> NDArray[np.float64]:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((D, D)))[0]


def none_of(images: PairedEmbeddings) -> PairedEmbeddings:
    return images.where(np.zeros(len(images.labels), dtype=bool))


def map_at_r(carried: Vectors, asked: PairedEmbeddings, gallery: PairedEmbeddings) -> float:
    found = [
        (vector, int(label), row)
        for row, (vector, label) in enumerate(zip(gallery.target, gallery.labels, strict=True))
    ]
    queries = [(vector, int(label), -1) for vector, label in zip(carried, asked.labels, strict=True)]
    return tiny.retrieval_by_loops(queries, found)["map_at_r"]


def cosine(bridge: Bridge, images: PairedEmbeddings) -> float:
    return float((bridge(images.source).astype(np.float64) * images.target).sum(1).mean())


def test_networks_with_equal_spaces_need_no_bridge() -> None:
    images = world(np.eye(D), noise=0)
    assert choose(images, world(np.eye(D), noise=0, seed=1)).bridge.kind == "identity"


def test_a_rotated_space_is_rotated_back_for_classes_outside_the_fit() -> None:
    choice = choose(world(rotation(), classes=12), world(rotation(), classes=12, seed=1))
    old = world(rotation(), seed=2, first=20)
    assert choice.bridge.kind != "identity"
    assert cosine(choice.bridge, old) > 0.9 > cosine(Bridge("identity"), old) + 0.5


def test_a_bridge_that_harms_old_classes_is_not_selected() -> None:
    """Two new classes change places; a map that does that to all images of their plane harms the others."""
    old = world(np.eye(D), noise=0.02, seed=5, first=20)
    swapped = world(np.eye(D), classes=2, noise=0.02)
    new = PairedEmbeddings(swapped.source, np.concatenate([swapped.target[6:], swapped.target[:6]]), swapped.labels)
    assert cosine(fit("ridge", new.source, new.target), old) < 0.9
    assert choose(new, none_of(new), sample=old).bridge.kind == "identity"


@settings(max_examples=12)
@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_the_selected_bridge_is_never_below_the_identity_on_the_images_that_select_it(
    seed: int, turn: float, noise: float, sampled: bool
) -> None:
    W = (1 - turn) * np.eye(D) + turn * rotation(seed)
    fitted, held = world(W, noise=noise, seed=seed), world(W, noise=noise, seed=seed + 1)
    sample = world(np.eye(D), noise=noise, seed=seed + 2, first=20) if sampled else None
    choice = choose(fitted, held, sample=sample)
    plain, best = (map_at_r(bridge(held.source), held, fitted) for bridge in (Bridge("identity"), choice.bridge))
    assert best >= plain - 1e-9
    json.dumps(choice.figures, allow_nan=False)


def test_figures_are_those_of_loops() -> None:
    fitted, held = world(rotation()), world(rotation(), seed=1)
    figures = choose(fitted, held).figures
    assert set(figures) == {"identity", "mean_shift", "procrustes", "ridge", "ldc", "mlp"}
    for kind in ("identity", "ldc", "mlp"):  # of one strength
        carried = fit(kind, fitted.source, fitted.target)(held.source)
        assert figures[kind]["map_at_r"] == pytest.approx(map_at_r(carried, held, fitted))
        assert figures[kind]["cosine"] == pytest.approx((carried * held.target).sum(1).mean(), abs=1e-5)


def test_a_learned_bridge_that_is_better_is_taken_and_one_that_is_worse_is_not() -> None:
    W = rotation()
    fitted, held = world(W, each=2, noise=0.3), world(W, each=12, seed=1, noise=0.02)
    true = Bridge("projection", {"weight": W.astype(np.float32)})
    wrong = Bridge("projection", {"weight": rotation(9).astype(np.float32)})
    assert choose(fitted, held, extra={"projection": true}).bridge is true
    assert choose(fitted, held, extra={"projection": wrong}).bridge is not wrong


@pytest.mark.parametrize("dim", [4, 12])
def test_spaces_of_other_sizes_have_no_identity(dim: int) -> None:
    W = np.random.default_rng(1).standard_normal((dim, D))
    choice = choose(world(W), world(W, seed=1))
    assert "identity" not in choice.figures
    assert choice.bridge(world(W).source).shape == (36, dim)
    assert cosine(choice.bridge, world(W, seed=1)) > 0.7


def of_images(classes: int, each: int) -> Choice:
    images = world(rotation(), classes=classes, each=each)
    return choose(images, none_of(images))


@pytest.mark.parametrize(("classes", "each"), [(1, 1), (1, 3), (2, 1), (3, 1), (2, 2)])
def test_few_images_and_none_held_out(classes: int, each: int) -> None:
    choice = of_images(classes, each)
    carried = choice.bridge(world(rotation(), seed=4).source)
    np.testing.assert_allclose(np.linalg.norm(carried, axis=1), 1, atol=1e-5)
    json.dumps(choice.figures, allow_nan=False)


def test_with_a_single_class_the_simplest_bridge_is_selected() -> None:
    assert of_images(1, 3).bridge.kind == "identity"


def test_without_images_an_error_says_so() -> None:
    with pytest.raises(DataError, match="no image to fit them to"):
        of_images(0, 0)


def test_the_same_images_give_the_same_choice() -> None:
    one, other = (choose(world(rotation()), world(rotation(), seed=1)) for _ in range(2))
    assert one.figures == other.figures
    assert one.bridge.kind == other.bridge.kind
