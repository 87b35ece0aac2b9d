"""Maps cosines of several embedding spaces to one comparable score: the log-odds that query and item match.

    log P(match | c) / P(no match | c) = a_l·c + b_l,   a_l > 0,   for each space l that is searched

Queries that reach a space over a bridge find their matches at lower cosines than queries in their own space, while the
cosines of non-matches are hardly lower. Merging needs the order of the items of all spaces *together*, so the lines of
all spaces are fitted together, by maximum likelihood of a conditional logit (McFadden, Conditional logit analysis of
qualitative choice behavior, 1974; as a ranking loss: Cao et al., Learning to Rank: From Pairwise Approach to Listwise
Approach, ICML 2007)

    max Σ_q mean over q's matches i of log( e^{s_qi} / Σ_j e^{s_qj} ),   s_qi = α_l(i)·c_qi + β_l(i),

over the best items of each query in every space. Some queries are harder than others; that cancels here. Fits of each
space by itself (Platt scaling of all pairs or of the best ones, two normal distributions, the tail of the non-matches)
mistake it for uncertainty and flatten the line, to a degree that differs between spaces.
`benchmarks/studies/mixed_search.py` compares them.

The merged scores become log-odds by one further line, the same for all spaces, fitted to the best items of the merged
lists (Platt, Probabilistic Outputs for Support Vector Machines, 1999, with his smoothed targets). It does not change
the order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

BEST_ITEMS = 50
"""Number of best items of each query, in each space and then in the merged list, that a calibration is fitted to."""
MIN_SLOPE = 1.0
"""Smallest slope: where cosines do not tell matches from non-matches, items are still ranked by cosine."""
POOLING_PENALTY = 1e-2
"""Weight of the squared distance of the lines from their mean, relative to the mean log-likelihood of a query."""
RIDGE_PENALTY = 1e-4
"""Weight of the squared parameters of the lines: a perfect separation would otherwise have no finite optimum."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Maps cosines in one space to log-odds of a match, which are comparable across the spaces of a search.

    >>> round(float(Calibration(slope=10.0, offset=-5.0)(0.5)), 3)
    0.0

    Attributes:
        slope: a > 0, log-odds for each unit of cosine.
        offset: b, log-odds at cosine 0.
    """

    slope: float = 10.0
    offset: float = -5.0

    def __call__(self, cosines: ArrayLike) -> Array:
        """Log-odds of a match, float64 of the same shape."""
        return self.slope * np.asarray(cosines, dtype=np.float64) + self.offset

    def to_json(self) -> dict[str, float]:
        """The values as JSON stores them; the inverse of `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """The calibration with these values; the inverse of `to_json`.

        Raises:
            KeyError, ValueError, TypeError: the values are not those of a calibration.
        """
        slope, offset = float(values["slope"]), float(values["offset"])
        if not (slope > 0 and np.isfinite([slope, offset]).all()):
            raise ValueError(f"slope {slope}, offset {offset}: both must be finite and the slope above 0")
        return cls(slope, offset)


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """Q queries against the N items that are compared in one space, with the true matches.

    Attributes:
        cosines: float (Q, N).
        matches: bool (Q, N), whether query and item are of the same class.
        counted: bool (Q, N), which pairs count; a query does not count against itself.
    """

    cosines: NDArray[np.floating[Any]]
    matches: NDArray[np.bool_]
    counted: NDArray[np.bool_]


def probability(log_odds: ArrayLike) -> Array:
    """Probability of a match: 1 / (1 + e^−log-odds), float64 of the same shape."""
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
    """The calibration of a search in a single space; see `ScoredPairs` for the arguments.

    Calibrations of several spaces must be fitted together, by `fit_calibrations`.
    """
    (calibration,) = fit_calibrations([ScoredPairs(cosines, matches, counted)])
    return calibration


def fit_calibrations(spaces: Sequence[ScoredPairs]) -> list[Calibration]:
    """Fit the calibrations of all spaces of a search together.

    The items of each space are those that are compared in it. Where a gallery cannot provide them, they may be any
    images that the network of each space has seen. The classes may be few, and different from those that are searched
    later, but then the lists merge less well (`docs/results/mixed_search.md`).

    Args:
        spaces: pairs of the same Q queries with the items of each space.

    Returns:
        One calibration for each space, in the same order; the default calibration where no query has both a match and
        a non-match.
    """
    if not spaces:
        return []
    best = [_best_pairs(pairs) for pairs in spaces]
    cosines = np.concatenate([space_cosines for space_cosines, _ in best], axis=1)
    matches = np.concatenate([space_matches for _, space_matches in best], axis=1)
    space_of = np.repeat(np.arange(len(spaces)), [space_cosines.shape[1] for space_cosines, _ in best])
    counted = np.isfinite(cosines)
    informative = (matches & counted).any(axis=1) & (~matches & counted).any(axis=1)
    if not informative.any():
        return [Calibration()] * len(spaces)
    mean, spread = float(cosines[counted].mean()), max(float(cosines[counted].std()), 1e-6)
    x = np.where(counted, (np.where(counted, cosines, mean) - mean) / spread, 0.0)
    slopes, offsets = _fit_conditional_logit(
        x[informative], matches[informative], counted[informative], space_of, len(spaces), MIN_SLOPE * spread
    )
    scores = np.where(counted, x * slopes[space_of] + offsets[space_of], -np.inf)
    scale, shift = _fit_log_odds(scores, matches)
    slopes_of_cosines = scale * slopes / spread
    offsets_of_cosines = scale * (offsets - slopes * mean / spread) + shift
    return [
        Calibration(float(slope), float(offset))
        for slope, offset in zip(slopes_of_cosines, offsets_of_cosines, strict=True)
    ]


def _best_pairs(pairs: ScoredPairs) -> tuple[Array, NDArray[np.bool_]]:
    """Cosines and matches (Q, ≤ BEST_ITEMS) of the best items of each query; −∞ for pairs that do not count."""
    cosines = np.where(pairs.counted, pairs.cosines, -np.inf).astype(np.float64)
    if cosines.shape[1] <= BEST_ITEMS:
        return cosines, pairs.matches
    order = np.argpartition(-cosines, BEST_ITEMS - 1, axis=1)[:, :BEST_ITEMS]
    return np.take_along_axis(cosines, order, 1), np.take_along_axis(pairs.matches, order, 1)


def _fit_conditional_logit(
    x: Array,
    matches: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    space_of: NDArray[np.intp],
    spaces: int,
    min_slope: float,
) -> tuple[Array, Array]:
    """α and β of each space, by Newton's method with step halving; every query must have a match.

    Args:
        x: (Q, M) standardised cosines.
        matches: (Q, M) which pairs match.
        counted: (Q, M) which pairs count.
        space_of: (M,) index of the space of each column.
        spaces: number of spaces.
        min_slope: smallest α.
    """
    member = (space_of[:, None] == np.arange(spaces)).astype(np.float64)
    target = (matches & counted) / (matches & counted).sum(axis=1, keepdims=True)
    observed = np.concatenate([(target * x) @ member, target @ member], axis=1).mean(axis=0)
    centring = np.eye(spaces) - 1 / spaces
    penalty = np.kron(np.eye(2), POOLING_PENALTY * centring) + RIDGE_PENALTY * np.eye(2 * spaces)
    theta = np.repeat([1.0, 0.0], spaces)
    loss, p = _penalised_loss(theta, x, counted, space_of, observed, penalty)
    for _ in range(50):
        expected = np.concatenate([(p * x) @ member, p @ member], axis=1)
        gradient = expected.mean(axis=0) - observed + 2 * penalty @ theta
        moments = [np.diag((p * x**power).mean(axis=0) @ member) for power in (2, 1, 0)]
        second = np.block([[moments[0], moments[1]], [moments[1], moments[2]]])
        step = np.linalg.solve(second - expected.T @ expected / len(x) + 2 * penalty, gradient)
        size = 1.0
        new_loss, new_p = _penalised_loss(theta - size * step, x, counted, space_of, observed, penalty)
        while new_loss > loss and size > 1e-6:
            size /= 2
            new_loss, new_p = _penalised_loss(theta - size * step, x, counted, space_of, observed, penalty)
        if new_loss > loss:
            break
        decrease = loss - new_loss
        theta, loss, p = theta - size * step, new_loss, new_p
        if decrease < 1e-10:
            break
    return np.maximum(theta[:spaces], min_slope), theta[spaces:]


def _penalised_loss(
    theta: Array,
    x: Array,
    counted: NDArray[np.bool_],
    space_of: NDArray[np.intp],
    observed: Array,
    penalty: Array,
) -> tuple[float, Array]:
    """Mean penalised negative log-likelihood of a query, and the softmax over each query's items (Q, M)."""
    spaces = len(theta) // 2
    scores = np.where(counted, x * theta[:spaces][space_of] + theta[spaces:][space_of], -np.inf)
    top = scores.max(axis=1, keepdims=True)
    weights = np.exp(scores - top)
    total = weights.sum(axis=1, keepdims=True)
    loss = float((top + np.log(total)).mean() - observed @ theta + theta @ penalty @ theta)
    return loss, weights / total


def _fit_log_odds(scores: Array, matches: NDArray[np.bool_]) -> tuple[float, float]:
    """Scale > 0 and shift that turn merged scores into log-odds (Platt), from the best items of each query."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :BEST_ITEMS]
    best_scores, best_matches = np.take_along_axis(scores, order, 1), np.take_along_axis(matches, order, 1)
    x: Array = best_scores[np.isfinite(best_scores)]
    y = best_matches[np.isfinite(best_scores)]
    # Platt's targets: with few pairs a perfect separation would otherwise make the scale infinite.
    target: Array = np.where(y, (y.sum() + 1) / (y.sum() + 2), 1 / ((~y).sum() + 2))
    scale, shift = _fit_logistic(x, target)
    return (scale, shift) if scale > 0 else (1.0, _fit_offset(x, target))


def _fit_logistic(x: Array, target: Array) -> tuple[float, float]:
    """Slope and offset of a logistic regression, by Newton's method with step halving."""
    design = np.stack([x, np.ones_like(x)], axis=1)
    beta = np.zeros(2)
    loss = _logistic_loss(design @ beta, target)
    for _ in range(100):
        p = probability(design @ beta)
        gradient = design.T @ (p - target)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-6 and _logistic_loss(design @ (beta - size * step), target) > loss:
            size /= 2
        beta = beta - size * step
        before, loss = loss, _logistic_loss(design @ beta, target)
        if before - loss < 1e-10 * max(1.0, before):
            break
    return float(beta[0]), float(beta[1])


def _fit_offset(x: Array, target: Array) -> float:
    """Offset of a logistic regression whose slope is 1, by bisection."""
    low, high = -float(np.abs(x).max()) - 50.0, float(np.abs(x).max()) + 50.0
    for _ in range(80):
        middle = (low + high) / 2
        if probability(x + middle).sum() > target.sum():
            high = middle
        else:
            low = middle
    return (low + high) / 2


def _logistic_loss(log_odds: Array, target: Array) -> float:
    """Summed cross-entropy of the logistic function of log-odds with target probabilities."""
    return float((np.logaddexp(0, log_odds) - target * log_odds).sum())
