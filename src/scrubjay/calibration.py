"""Cosines of two embedding spaces are not comparable; the log-odds that they mean a match are.

    log P(match | c) / P(no match | c) = a·c + b,   a > 0

A query that comes over a bridge finds its matches at lower cosines than one that is at home, and those of others at
hardly lower ones. The line is fitted by maximum likelihood on pairs whose labels are known (Platt, Probabilistic
Outputs for Support Vector Machines, 1999, with his smoothed targets), among the best items of each query only: there
lists are merged, and the many items that nobody would mistake for a match would decide a fit on all pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

TOP = 50
"""Best items of each query that a calibration is fitted on."""
STEEP = 1.0
"""The least slope: a score that says nothing still ranks by cosine."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Cosines of one leg of a search → log-odds of a match, comparable across legs.

    >>> round(float(Calibration(slope=10.0, offset=-5.0)(0.5)), 3)
    0.0

    Attributes:
        slope: a > 0.
        offset: b.
    """

    slope: float = 10.0
    offset: float = -5.0

    def __call__(self, cosines: ArrayLike) -> NDArray[np.float64]:
        """Log-odds, float64 of the same shape."""
        return self.slope * np.asarray(cosines, dtype=np.float64) + self.offset

    def to_json(self) -> dict[str, float]:
        """What `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """What `to_json` gave.

        Raises:
            KeyError, ValueError, TypeError: the values are none.
        """
        slope, offset = float(values["slope"]), float(values["offset"])
        if not (slope > 0 and np.isfinite([slope, offset]).all()):
            raise ValueError(f"slope {slope}, offset {offset}: needed are finite numbers, the slope above 0")
        return cls(slope, offset)


def probability(log_odds: ArrayLike) -> NDArray[np.float64]:
    """Of a match: 1 / (1 + e^−log-odds), float64 of the same shape."""
    return 0.5 * (1 + np.tanh(np.asarray(log_odds, dtype=np.float64) / 2))


def fit_calibration(
    cosines: NDArray[np.floating[Any]], matches: NDArray[np.bool_], counted: NDArray[np.bool_]
) -> Calibration:
    """The calibration of a leg, from pairs whose labels are known.

    Args:
        cosines: float (Q, G) of queries and items.
        matches: bool (Q, G), whether they are of one class.
        counted: bool (Q, G); a query itself does not count.

    Returns:
        The fitted line; the default where there is no match, or nothing else, to learn from.
    """
    kept = counted & (_rank(np.where(counted, cosines, -np.inf)) < TOP)
    c, y = cosines[kept].astype(np.float64), matches[kept]
    if not len(c) or y.all() or not y.any():
        return Calibration()
    # Platt's targets: with few pairs a perfect separation would otherwise make the slope infinite.
    target = np.where(y, (y.sum() + 1) / (y.sum() + 2), 1 / ((~y).sum() + 2))
    mean, spread = c.mean(), max(float(c.std()), 1e-6)
    slope, offset = _logistic((c - mean) / spread, target)
    slope = max(slope / spread, STEEP)
    return Calibration(slope, _offset(slope, c, target) if slope == STEEP else offset - slope * mean)


def _rank(scores: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Rank of each score in its row, 0 for the best."""
    ranks = np.empty(scores.shape, dtype=np.int64)
    np.put_along_axis(ranks, np.argsort(-scores, axis=1, kind="stable"), np.arange(scores.shape[1])[None, :], axis=1)
    return ranks


def _logistic(x: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset of the greatest likelihood, by Newton's method with step halving."""
    design = np.stack([x, np.ones_like(x)], axis=1)
    beta = np.zeros(2)
    loss = _loss(design @ beta, target)
    for _ in range(100):
        p = probability(design @ beta)
        gradient = design.T @ (p - target)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-6 and _loss(design @ (beta - size * step), target) > loss:
            size /= 2
        beta = beta - size * step
        before, loss = loss, _loss(design @ beta, target)
        if before - loss < 1e-10 * max(1.0, before):
            break
    return float(beta[0]), float(beta[1])


def _offset(slope: float, c: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """The offset of the greatest likelihood for a given slope, by bisection."""
    low, high = -abs(slope) - 50.0, abs(slope) + 50.0
    for _ in range(80):
        middle = (low + high) / 2
        if probability(slope * c + middle).sum() > target.sum():
            high = middle
        else:
            low = middle
    return (low + high) / 2


def _loss(log_odds: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    return float((np.logaddexp(0, log_odds) - target * log_odds).sum())
