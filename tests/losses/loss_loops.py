"""Formulas as loops over numbers: what the tests of the losses share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

Vector = Sequence[float]
Y = [0, 1, 0, 2, 1, 0, 3]  # three, two, and two classes of one image
B, D = len(Y), 4


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit(*shape: int, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(draw(*shape, seed=seed), dim=1)


Z_O, Z_N, LABELS = unit(B, D, seed=1), unit(B, D, seed=2), torch.tensor(Y)
OLD, NEW = Z_O.tolist(), Z_N.tolist()


def dot(a: Vector, b: Vector) -> float:
    return sum(p * q for p, q in zip(a, b, strict=True))


def dist2(a: Vector, b: Vector) -> float:
    return sum((p - q) ** 2 for p, q in zip(a, b, strict=True))


def softmax(x: Vector) -> list[float]:
    return [math.exp(v) / sum(math.exp(w) for w in x) for v in x]


def divergence(p: Vector, q: Vector) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def positives(i: int) -> list[int]:
    return [j for j in range(B) if j != i and Y[j] == Y[i]]


def negatives(i: int) -> list[int]:
    return [j for j in range(B) if Y[j] != Y[i]]


def same(loss: Tensor, expected: float) -> None:
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
