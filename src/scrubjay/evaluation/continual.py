"""Scores over a stream of sessions: averages, forgetting, and backward and forward transfer.

`a[t, j]` is the score on the classes of session j after learning session t, for T sessions; in the formulas t and j
count from 1. Larger is better. NaN stands for "not measured", and every figure that needs a NaN is NaN.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import DataError


def square(name: str, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """`matrix` as float64 (T, T), T ≥ 1.

    Raises:
        DataError: it has another shape.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise DataError(f"{name} has the shape {matrix.shape}; needed is (T, T), a row and a column for each session.")
    return matrix


def average(a: NDArray[np.float64]) -> float:
    """Mean score over all sessions at the end: (1/T) Σ_j a[T, j].

    >>> average([[0.9, 0.1], [0.5, 0.7]])
    0.6

    Raises:
        DataError: a is not square.
    """
    return float(square("a", a)[-1].mean())


def average_incremental(a: NDArray[np.float64]) -> float:
    """Mean over all steps of the mean score over the sessions learned so far: (1/T) Σ_t (1/t) Σ_{j≤t} a[t, j].

    Raises:
        DataError: a is not square.
    """
    return float(np.mean([row[:t].mean() for t, row in enumerate(square("a", a), start=1)]))


def forgetting(a: NDArray[np.float64]) -> float:
    """Drop from the best score to the last: 1/(T−1) Σ_{j<T} (max_{l<T} a[l, j] − a[T, j]); NaN for T = 1.

    Chaudhry et al., Riemannian Walk for Incremental Learning, ECCV 2018. Lower is better, and it may be negative.
    The maximum is taken over the steps that were measured.

    Raises:
        DataError: a is not square.
    """
    a = square("a", a)
    return _mean(np.fmax.reduce(a[:-1, :-1], axis=0, initial=np.nan) - a[-1, :-1])


def backward_transfer(a: NDArray[np.float64]) -> float:
    """Effect of later sessions on earlier ones: 1/(T−1) Σ_{j<T} (a[T, j] − a[j, j]); NaN for T = 1.

    Lopez-Paz and Ranzato, Gradient Episodic Memory, NeurIPS 2017.

    Raises:
        DataError: a is not square.
    """
    a = square("a", a)
    return _mean(a[-1, :-1] - np.diag(a)[:-1])


def forward_transfer(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Effect of earlier sessions on later ones: 1/(T−1) Σ_{j≥2} (a[j−1, j] − b[j]); NaN for T = 1.

    Lopez-Paz and Ranzato, Gradient Episodic Memory, NeurIPS 2017.

    Args:
        a: float64 (T, T).
        b: float64 (T,), the scores of the model before session 1.

    Raises:
        DataError: a is not square, or b does not have one score for each session.
    """
    a, b = square("a", a), np.asarray(b, dtype=np.float64)
    if b.shape != a.shape[:1]:
        raise DataError(f"b has the shape {b.shape} for {len(a)} sessions; needed is one score for each.")
    return _mean(np.diag(a, 1) - b[1:])


def normalised_gap(method: float, finetune: float, joint: float) -> float:
    """Share of the gap between fine-tuning and joint that a method closes: (method − finetune) / (joint − finetune).

    0 is as much forgetting as with fine-tuning, 1 is as good as training on all images; NaN where there is no gap.

    >>> normalised_gap(method=0.75, finetune=0.5, joint=1.0)
    0.5
    """
    return (method - finetune) / (joint - finetune) if joint != finetune else math.nan


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else math.nan
