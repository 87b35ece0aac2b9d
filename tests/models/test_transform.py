"""Fixed transforms of trunk features against their formulas, one number at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import tiny
from scrubjay.models.embedding import Encoder
from scrubjay.models.transform import Kind, Transform

FEATURES = torch.tensor([[1.0, -4.0, 0.0], [0.25, 9.0, 2.0]])


def test_roots_keep_their_sign_and_have_unit_norm() -> None:
    found = Transform("root", 3, 8)(FEATURES)
    for row, expected in zip(FEATURES.tolist(), found.tolist(), strict=True):
        norm = math.sqrt(sum(abs(value) for value in row))
        assert expected == pytest.approx([math.copysign(math.sqrt(abs(value)), value) / norm for value in row])


@pytest.mark.parametrize("kind", ["relu", "gelu"])
def test_random_features(kind: Kind) -> None:
    transform = Transform(kind, 3, 5)
    directions = np.random.RandomState(0).standard_normal((5, 3))
    found = transform(FEATURES)
    assert (transform.inputs, transform.outputs) == (3, 5)
    for row, image in enumerate(FEATURES.tolist()):
        for column in range(5):
            value = sum(a * b for a, b in zip(directions[column], image, strict=True))
            if kind == "relu":
                expected = max(value / math.sqrt(3), 0)
            else:
                value /= math.sqrt(sum(x * x for x in image))
                expected = value * (1 + math.erf(value / math.sqrt(2))) / 2
            assert float(found[row, column]) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_directions_are_the_same_on_every_machine() -> None:
    assert float(Transform("gelu", 3, 5).weight[0, 0]) == pytest.approx(1.7640523, abs=1e-7)


def test_features_of_zero_have_finite_gradients() -> None:
    for kind in ("none", "root", "relu", "gelu"):
        zeros = torch.zeros(2, 3, requires_grad=True)
        Transform(kind, 3, 5)(zeros).sum().backward()
        assert zeros.grad is not None
        assert torch.isfinite(zeros.grad).all()


def test_directions_are_part_of_the_era_but_not_of_the_weights() -> None:
    eras, keys = set(), set()
    changes: list[dict[str, object]] = [
        *({"transform": kind} for kind in ("none", "root", "relu", "gelu")),
        {"transform": "relu", "random_features": 9},
    ]
    for change in changes:
        embedder = tiny.learner(network=tiny.NETWORK.model_copy(update=change)).network.embedder
        eras.add(Encoder(embedder, tiny.IMAGES).era)
        keys.add(tuple(embedder.state_dict()))
    assert len(eras) == len(changes)
    assert len(keys) == 1
