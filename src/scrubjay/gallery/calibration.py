"""Cosines of two embedding spaces are not comparable; the log-odds that they mean a match are.

    log P(match | c) / P(no match | c) = a_l·c + b_l,   a_l > 0,   for each leg l of a search

A query that comes over a bridge finds its matches at lower cosines than one that is at home, and those of others at
hardly lower ones. What merging needs is the order of what the legs find *together*, so their lines are fitted together
too: by the greatest likelihood of a conditional logit (McFadden, Conditional logit analysis of qualitative choice
behavior, 1974; as a loss for rankings: Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, ICML
2007)

    max Σ_q mean over q's matches i of log( e^{s_qi} / Σ_j e^{s_qj} ),   s_qi = α_l(i)·c_qi + β_l(i),

over the best items of each query in every leg. One query is harder than another; that cancels here, where fits of each
leg by itself (Platt's on all pairs or on the best, two normal distributions, the tail of the non-matches) take it for
uncertainty and flatten the line, by how much depends on the leg. `benchmarks/mixed_search.py` compares them.

The merged scores become log-odds by one more line, the same for all legs, fitted to the best items of the merged lists
(Platt, Probabilistic Outputs for Support Vector Machines, 1999, with his smoothed targets). It changes no order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

TOP = 50
"""Best items of each query in each leg, and then in the merged list, that a calibration is fitted on."""
STEEP = 1.0
"""The least slope: a score that says nothing still ranks by cosine."""
ALIKE = 1e-2
"""How strongly the lines of the legs are drawn to their mean, against the mean log-likelihood of a query."""
SMALL = 1e-4
"""How strongly they are drawn to 0: a perfect separation would otherwise have no finite optimum."""

Array = NDArray[np.float64]


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

    def __call__(self, cosines: ArrayLike) -> Array:
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


@dataclass(frozen=True, slots=True)
class Pairs:
    """Queries and the items that one leg answers for, with what is known about them.

    Attributes:
        cosines: float (Q, N).
        matches: bool (Q, N), whether they are of one class.
        counted: bool (Q, N); a query does not count against itself.
    """

    cosines: NDArray[np.floating[Any]]
    matches: NDArray[np.bool_]
    counted: NDArray[np.bool_]


def probability(log_odds: ArrayLike) -> Array:
    """Of a match: 1 / (1 + e^−log-odds), float64 of the same shape."""
    return 0.5 * (1 + np.tanh(np.asarray(log_odds, dtype=np.float64) / 2))


def conformal_threshold(no_match_scores: NDArray[np.float64], false_match_rate: float) -> float:
    """The score above which the best hit of a query counts as a match.

    The ⌈(n + 1)(1 − α)⌉-th smallest of n best scores of images whose class is not in the gallery (split conformal
    prediction; Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2005; Papadopoulos et al., 2002). If a
    further such image is exchangeable with these, its best score exceeds the threshold with a probability of at most α.
    That holds on average over sets of scores; the share of a single set of n independent ones varies by about
    √(α(1 − α)/n).

    >>> conformal_threshold(np.arange(1.0, 20.0), 0.05)
    19.0

    Args:
        no_match_scores: float (n,), best scores of images whose class is not in the gallery, one for each image.
        false_match_rate: α in 0 … 1.

    Returns:
        The threshold; infinity where n is too small for α (n < 1/α − 1), as then nothing can be called a match.
    """
    rank = math.ceil((len(no_match_scores) + 1) * (1 - false_match_rate) - 1e-9)
    return float(np.sort(no_match_scores)[rank - 1]) if 1 <= rank <= len(no_match_scores) else math.inf


def fit_calibration(
    cosines: NDArray[np.floating[Any]], matches: NDArray[np.bool_], counted: NDArray[np.bool_]
) -> Calibration:
    """The calibration of a search of one leg: `fit_calibrations` of one. Those of several must be fitted together."""
    (calibration,) = fit_calibrations([Pairs(cosines, matches, counted)])
    return calibration


def fit_calibrations(legs: Sequence[Pairs]) -> list[Calibration]:
    """The calibrations of all legs of a search, fitted together.

    The items of the legs are those that each would answer for, or, where a gallery cannot say, any images that each
    leg's network has seen. The classes may be few, and others than those that are searched later, but then the lines
    merge less well (`docs/results/mixed_search.md`).

    Args:
        legs: of the same Q queries, in the order of the search.

    Returns:
        One for each leg; the default where no query has a match and something else to learn from.
    """
    if not legs:
        return []
    best = [_best(leg) for leg in legs]
    c, y = (np.concatenate([leg[part] for leg in best], axis=1) for part in (0, 1))
    leg = np.repeat(np.arange(len(legs)), [part[0].shape[1] for part in best])
    live = np.isfinite(c)
    told = (y & live).any(axis=1) & (~y & live).any(axis=1)
    if not told.any():
        return [Calibration()] * len(legs)
    mean, spread = float(c[live].mean()), max(float(c[live].std()), 1e-6)
    x = np.where(live, (np.where(live, c, mean) - mean) / spread, 0.0)
    slopes, offsets = _merging(x[told], y[told], live[told], leg, len(legs), STEEP * spread)
    scores = np.where(live, x * slopes[leg] + offsets[leg], -np.inf)
    scale, shift = _platt(scores, y)
    found = zip(scale * slopes / spread, scale * (offsets - slopes * mean / spread) + shift, strict=True)
    return [Calibration(float(slope), float(offset)) for slope, offset in found]


def _best(leg: Pairs) -> tuple[Array, NDArray[np.bool_]]:
    """Cosines and matches (Q, ≤ TOP) of the best items of each query; −∞ where there is none that counts."""
    cosines = np.where(leg.counted, leg.cosines, -np.inf).astype(np.float64)
    if cosines.shape[1] <= TOP:
        return cosines, leg.matches
    order = np.argpartition(-cosines, TOP - 1, axis=1)[:, :TOP]
    return np.take_along_axis(cosines, order, 1), np.take_along_axis(leg.matches, order, 1)


def _merging(
    x: Array, y: NDArray[np.bool_], live: NDArray[np.bool_], leg: NDArray[np.intp], legs: int, least: float
) -> tuple[Array, Array]:
    """α and β of each leg, by Newton's method with step halving; every query has a match.

    Args:
        x: (Q, M) cosines, standardised.
        y: (Q, M) matches.
        live: (Q, M) what counts.
        leg: (M,) that each column is of.
        legs: how many there are.
        least: value of α.
    """
    member = (leg[:, None] == np.arange(legs)).astype(np.float64)
    share = (y & live) / (y & live).sum(axis=1, keepdims=True)
    wanted = np.concatenate([(share * x) @ member, share @ member], axis=1).mean(axis=0)
    centre = np.eye(legs) - 1 / legs
    prior = np.kron(np.eye(2), ALIKE * centre) + SMALL * np.eye(2 * legs)
    theta = np.repeat([1.0, 0.0], legs)
    loss, p = _softmax(theta, x, live, leg, wanted, prior)
    for _ in range(50):
        expected = np.concatenate([(p * x) @ member, p @ member], axis=1)
        gradient = expected.mean(axis=0) - wanted + 2 * prior @ theta
        squares = [np.diag((p * x**power).mean(axis=0) @ member) for power in (2, 1, 0)]
        second = np.block([[squares[0], squares[1]], [squares[1], squares[2]]])
        step = np.linalg.solve(second - expected.T @ expected / len(x) + 2 * prior, gradient)
        before, size = loss, 1.0
        while (found := _softmax(theta - size * step, x, live, leg, wanted, prior))[0] > before and size > 1e-6:
            size /= 2
        if found[0] > before:
            break
        theta, (loss, p) = theta - size * step, found
        if before - loss < 1e-10:
            break
    return np.maximum(theta[:legs], least), theta[legs:]


def _softmax(
    theta: Array, x: Array, live: NDArray[np.bool_], leg: NDArray[np.intp], wanted: Array, prior: Array
) -> tuple[float, Array]:
    """Penalised negative log-likelihood of a query, and each item's share of its list (Q, M)."""
    legs = len(theta) // 2
    scores = np.where(live, x * theta[:legs][leg] + theta[legs:][leg], -np.inf)
    top = scores.max(axis=1, keepdims=True)
    weights = np.exp(scores - top)
    total = weights.sum(axis=1, keepdims=True)
    loss = float((top + np.log(total)).mean() - wanted @ theta + theta @ prior @ theta)
    return loss, weights / total


def _platt(scores: Array, matches: NDArray[np.bool_]) -> tuple[float, float]:
    """Scale > 0 and shift that turn merged scores into log-odds, from the best items of each query."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    s, y = np.take_along_axis(scores, order, 1), np.take_along_axis(matches, order, 1)
    x: Array = s[np.isfinite(s)]
    y = y[np.isfinite(s)]
    # Platt's targets: with few pairs a perfect separation would otherwise make the scale infinite.
    target: Array = np.where(y, (y.sum() + 1) / (y.sum() + 2), 1 / ((~y).sum() + 2))
    scale, shift = _logistic(x, target)
    return (scale, shift) if scale > 0 else (1.0, _shift(x, target))


def _logistic(x: Array, target: Array) -> tuple[float, float]:
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


def _shift(x: Array, target: Array) -> float:
    """The offset of the greatest likelihood for a slope of 1, by bisection."""
    low, high = -float(np.abs(x).max()) - 50.0, float(np.abs(x).max()) + 50.0
    for _ in range(80):
        middle = (low + high) / 2
        if probability(x + middle).sum() > target.sum():
            high = middle
        else:
            low = middle
    return (low + high) / 2


def _loss(log_odds: Array, target: Array) -> float:
    return float((np.logaddexp(0, log_odds) - target * log_odds).sum())
