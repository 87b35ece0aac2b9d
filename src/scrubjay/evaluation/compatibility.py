"""Whether the queries of a younger generation can search the vectors that older generations stored.

`C[t, k]` is the score with queries embedded by generation t and the gallery by generation k ≤ t; entries above the
diagonal are ignored. In the formulas t and k count from 1 to T. Larger is better. NaN stands for "not measured", and
every figure that needs a NaN is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import DataError
from scrubjay.evaluation.continual import square


def bct(C: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The criterion of backward-compatible training, by pair of generations: k < t and C[t, k] > C[k, k].

    Where it holds, new queries search an old gallery better than the old queries did. Shen et al., Towards
    Backward-Compatible Representation Learning, CVPR 2020.

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
    """Gain of the last generation's queries on old galleries: 1/(T−1) Σ_{k<T} (C[T, k] − C[k, k]); NaN for T = 1.

    Raises:
        DataError: C is not square.
    """
    C = square("C", C)
    return float(np.mean(C[-1, :-1] - np.diag(C)[:-1])) if len(C) > 1 else math.nan


def compatibility_summary(C: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """AC, AM, BC and the BCT criterion of one matrix, for JSON: None for what was not measured.

    >>> compatibility_summary([[0.5, None], [0.75, 1.0]])
    {'ac': 1.0, 'am': 0.75, 'bc': 0.25, 'bct': [[None, None], [True, None]]}

    Args:
        C: (T, T) as lists; None for what was not measured.

    Returns:
        `ac`, `am` and `bc`, and `bct`: by t, then by k < t, whether C[t][k] > C[k][k].

    Raises:
        DataError: C is not square.
    """
    matrix = square("C", np.array(C, dtype=np.float64))
    holds = bct(matrix)
    measured = np.isfinite(matrix) & np.isfinite(np.diag(matrix))
    size = len(matrix)
    return {
        **{name: _json(figure(matrix)) for name, figure in (("ac", ac), ("am", am), ("bc", bc))},
        "bct": [[bool(holds[t, k]) if k < t and measured[t, k] else None for k in range(size)] for t in range(size)],
    }


def backfill_area(fractions: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Area under the backfill curve by the trapezium rule (Jaeckle et al., FastFill, ICLR 2023).

    >>> backfill_area([0, 0.5, 1], [0.5, 0.75, 1.0])
    0.75

    Args:
        fractions: float64 (n,), fractions of the gallery that are re-embedded, rising from 0 to 1.
        scores: float64 (n,), the score at each fraction.

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
    """Positions of the queries that had a correct hit at rank 1 before and have none there now, ascending.

    Args:
        before: bool (N,), whether rank 1 of each query was correct (`RetrievalScores.found_first`).
        after: bool (N,), whether it is correct now, for the same queries.

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
    """Share of all queries that are negative flips; NaN without queries.

    Yan et al., Positive-Congruent Training, CVPR 2021.

    >>> negative_flip_rate([True, True, False, False], [True, False, True, False])
    0.25

    Raises:
        DataError: `before` and `after` are not of the same queries.
    """
    flips = negative_flips(before, after)
    return len(flips) / len(before) if len(before) else math.nan


def retained(now: float, then: float) -> float:
    """Score now, divided by the score of the generation that first learned those classes; NaN where that was 0."""
    return now / then if then else math.nan


def retained_by_session(a: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """`retained` for the classes of every session after every later one: a[t][j] / a[j][j] for j ≤ t, else None.

    >>> retained_by_session([[0.8, 0.1], [0.4, 0.9]])
    [[1.0, None], [0.5, 1.0]]

    Args:
        a: (T, T), a[t][j] the score on the classes of session j after learning session t; None: not measured.
    """
    size = len(a)
    return [[_share(a[t][j], a[j][j]) if j <= t else None for j in range(size)] for t in range(size)]


def _share(now: float | None, then: float | None) -> float | None:
    return None if now is None or then is None else _json(retained(now, then))


def _json(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
