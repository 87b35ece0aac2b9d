"""The choice of shrinkage and residual weight, on the images of the first session."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from scrubjay.closed_form.discriminant import Projection, Weighting, solve
from scrubjay.closed_form.statistics import Statistics
from scrubjay.evaluation.retrieval import evaluate_self

SHRINKAGES = (0.2, 0.1, 0.4, 0.7)
"""Candidates; the first is the default, which was within 0.3 points of the best on every stream that was tried."""
RESIDUALS = (0.3, 0.1, 0.03, 0.01, 0.0)
"""Candidates for the residual weight, largest first."""
FREE = 0.0
"""Loss of mAP@R, in 0 … 1, at which residual axes still count as free: they help with classes never learned."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the metric depends on besides the statistics.

    Attributes:
        shrinkage: γ.
        residual: ρ, weight of the axes beyond the discriminants.
    """

    shrinkage: float
    residual: float


DEFAULTS = Settings(SHRINKAGES[0], 0.03)


def choose(fitted: Statistics, features: Tensor, labels: Tensor, dim: int, weighting: Weighting = "equal") -> Settings:
    """Choose both settings by images that are not in the statistics.

    The default shrinkage is kept unless another one is better by more than one standard error of the difference, and
    the residual weight is the largest one that costs no more than `FREE`.

    Args:
        fitted: statistics of one half of the images.
        features: trunk features (N, p) of images of the other half.
        labels: int64 (N,).
        dim: largest number of axes.
        weighting: see `Discriminants.projection`.

    Returns:
        The settings; the default ones where there are too few images to tell.
    """
    if len(fitted.labels) < 2 or len(set(labels.tolist())) == len(labels):
        return DEFAULTS
    default, *others = SHRINKAGES
    solved = solve(fitted, default, dim)
    best, base = default, _precision(solved.projection(0.0, dim, weighting), features, labels)
    for shrinkage in others:
        candidate = solve(fitted, shrinkage, dim)
        gain = _precision(candidate.projection(0.0, dim, weighting), features, labels) - base
        if gain.mean() > gain.std() / len(gain) ** 0.5 and gain.mean() > 0:
            solved, best, base = candidate, shrinkage, base + gain
    for residual in RESIDUALS:
        loss = base - _precision(solved.projection(residual, dim, weighting), features, labels)
        if loss.mean() <= FREE:
            return Settings(best, residual)
    return Settings(best, 0.0)


def _precision(projection: Projection, features: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """mAP@R of every image, searched among the others."""
    z = F.normalize(projection(features), dim=1).float().numpy()
    return evaluate_self(z, labels.numpy(), (1,)).map_at_r_per_query
