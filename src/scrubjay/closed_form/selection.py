"""The choice of the prior and of the residual weight, on the images of the first session."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from scrubjay.closed_form.discriminant import Projection, Weighting, solve
from scrubjay.closed_form.statistics import Statistics
from scrubjay.evaluation.retrieval import evaluate_self

PRIORS = (1000.0, 300.0, 3000.0, 10000.0)
"""Candidates for the prior; the first is the default."""
RESIDUALS = (0.3, 0.1, 0.03, 0.01, 0.0)
"""Candidates for the residual weight, largest first."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the metric depends on besides the statistics.

    Attributes:
        prior: κ, number of feature vectors that the diagonal counts as in the covariance within classes.
        residual: ρ, weight of the axes beyond the discriminants.
    """

    prior: float
    residual: float

    def shrinkage(self, statistics: Statistics) -> float:
        """γ = κ/(κ + N) for N feature vectors: the more there are, the less their covariance is shrunk.

        It is the mode of the covariance under an inverse Wishart prior with a diagonal matrix and κ degrees of freedom.
        """
        return self.prior / (self.prior + statistics.total)


DEFAULTS = Settings(PRIORS[0], 0.03)


def choose(fitted: Statistics, features: Tensor, labels: Tensor, dim: int, weighting: Weighting = "equal") -> Settings:
    """Choose both settings by images that are not in the statistics.

    The default prior is kept unless another one is better by more than one standard error of the difference in mAP@R.
    The residual weight is the largest one that costs nothing, since such axes help with classes never learned.

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
    default, *others = PRIORS
    solved = solve(fitted, Settings(default, 0.0).shrinkage(fitted), dim)
    best, base = default, _precision(solved.projection(0.0, dim, weighting), features, labels)
    for prior in others:
        candidate = solve(fitted, Settings(prior, 0.0).shrinkage(fitted), dim)
        gain = _precision(candidate.projection(0.0, dim, weighting), features, labels) - base
        if gain.mean() > gain.std() / len(gain) ** 0.5:
            solved, best, base = candidate, prior, base + gain
    for residual in RESIDUALS:
        if _precision(solved.projection(residual, dim, weighting), features, labels).mean() >= base.mean():
            return Settings(best, residual)
    return Settings(best, 0.0)


def _precision(projection: Projection, features: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """mAP@R of every image, searched among the others."""
    z = F.normalize(projection(features), dim=1).float().numpy()
    return evaluate_self(z, labels.numpy(), (1,)).map_at_r_per_query
