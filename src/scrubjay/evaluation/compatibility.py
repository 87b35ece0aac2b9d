"""Whether a younger generation can search what older generations stored.

`C[t, k]` is the score with queries embedded by generation t and the gallery by generation k ≤ t; entries above the
diagonal are ignored. In the formulas t and k count from 1 to T. Larger is better. NaN stands for "not measured" and
makes every figure that needs it NaN.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import DataError
from scrubjay.evaluation.continual import square


def bct(C: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where new queries search an old gallery better than old queries did: k < t and C[t, k] > C[k, k].

    Shen et al., Towards Backward-Compatible Representation Learning, CVPR 2020.

    Returns:
        bool (T, T); False also where a score was not measured, and on and above the diagonal.

    Raises:
        DataError: C is not square.
    """
    C = square("C", C)
    return np.tril(np.greater(C, np.diag(C)), -1)


def ac(C: NDArray[np.float64]) -> float:
    """Average compatibility: 2/(T(T−1)) Σ_{k<t} [C[t, k] > C[k, k]]; NaN for T = 1.

    Biondi et al., CoReS: Compatible Representations via Stationarity, TPAMI 2023.

    Raises:
        DataError: C is not square.
    """
    C = square("C", C)
    pairs = np.tril_indices(len(C), -1)
    return float(bct(C)[pairs].mean()) if len(C) > 1 and math.isfinite(am(C)) else math.nan


def am(C: NDArray[np.float64]) -> float:
    """Average score over all pairs of generations: 2/(T(T+1)) Σ_{k≤t} C[t, k].

    Biondi et al., CoReS: Compatible Representations via Stationarity, TPAMI 2023.

    Raises:
        DataError: C is not square.
    """
    C = square("C", C)
    return float(C[np.tril_indices(len(C))].mean())


def bc(C: NDArray[np.float64]) -> float:
    """What the last generation's queries gain on old galleries: 1/(T−1) Σ_{k<T} (C[T, k] − C[k, k]); NaN for T = 1.

    Raises:
        DataError: C is not square.
    """
    C = square("C", C)
    return float(np.mean(C[-1, :-1] - np.diag(C)[:-1])) if len(C) > 1 else math.nan


def backfill_area(fractions: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Area under the backfill curve, by trapezia (Jaeckle et al., FastFill, ICLR 2023).

    >>> backfill_area([0, 0.5, 1], [0.5, 0.75, 1.0])
    0.75

    Args:
        fractions: float64 (n,), fractions of the gallery that are re-embedded, rising from 0 to 1.
        scores: float64 (n,), the score at each.

    Raises:
        DataError: the fractions do not rise from 0 to 1, or there is not one score for each.
    """
    fractions, scores = np.asarray(fractions, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if fractions.ndim != 1 or fractions.shape != scores.shape:
        raise DataError(
            f"fractions {fractions.shape} and scores {scores.shape}: needed is one score for each fraction."
        )
    if len(fractions) < 2 or fractions[0] != 0 or fractions[-1] != 1 or not np.all(np.diff(fractions) > 0):
        raise DataError(f"fractions {fractions.tolist()}: a backfill curve rises from 0 to 1.")
    return float(np.trapezoid(scores, fractions))


def negative_flips(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Positions of the queries that were found at rank 1 before and are not found there now, ascending.

    Args:
        before: bool (N,), whether each query was found first (`RetrievalScores.found_first`).
        after: bool (N,), the same queries now.

    Raises:
        DataError: they are not of the same queries.
    """
    before, after = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if before.ndim != 1 or before.shape != after.shape:
        raise DataError(
            f"before {before.shape} and after {after.shape}: needed is one answer for each of the same queries."
        )
    return np.flatnonzero(before & ~after)


def negative_flip_rate(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """Share of the queries that are negative flips; NaN without queries.

    Yan et al., Positive-Congruent Training, CVPR 2021.

    >>> negative_flip_rate([True, True, False, False], [True, False, True, False])
    0.25

    Raises:
        DataError: `before` and `after` are not of the same queries.
    """
    flips = negative_flips(before, after)
    return len(flips) / len(before) if len(before) else math.nan


def retained(now: float, then: float) -> float:
    """Score now as a share of that of the generation that first learned those classes; NaN where that was 0."""
    return now / then if then else math.nan
