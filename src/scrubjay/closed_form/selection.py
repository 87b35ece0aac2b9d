"""The choice of target, prior and residual weight, on the images of the first session."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from scrubjay.closed_form.discriminant import Discriminants, Projection, Target, Weighting, solve
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
        prior: κ, number of feature vectors that the target counts as in the covariance within classes.
        residual: ρ, weight of the axes beyond the discriminants.
        target: what the covariance is shrunk towards.
    """

    prior: float
    residual: float
    target: Target = "diagonal"

    def shrinkage(self, statistics: Statistics) -> float:
        """γ = κ/(κ + N) for N feature vectors: the more there are, the less their covariance is shrunk.

        It is the mode of the covariance under an inverse Wishart prior with κ degrees of freedom, up to a constant.
        """
        return self.prior / (self.prior + statistics.total)

    def solve(self, statistics: Statistics, dim: int) -> Discriminants:
        """The discriminants of these statistics, with at most `dim` axes; see `closed_form.discriminant.solve`."""
        return solve(statistics, self.shrinkage(statistics), dim, self.target)


DEFAULTS = Settings(PRIORS[0], 0.03)
_CANDIDATES = (
    *(Settings(PRIORS[0], 0.0, target) for target in ("diagonal", "identity")),
    *(Settings(prior, 0.0, target) for target in ("diagonal", "identity") for prior in PRIORS[1:]),
)


def choose(fitted: Statistics, features: Tensor, labels: Tensor, dim: int, weighting: Weighting = "equal") -> Settings:
    """Choose the settings by images that are not in the statistics.

    The default target and prior are kept unless others are better by more than one standard error of the difference in
    mAP@R. The residual weight is the largest one that costs nothing, since such axes help with classes never learned.

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

    def precision(solved: Discriminants, residual: float) -> NDArray[np.float64]:
        return _precision(solved.projection(residual, dim, weighting), features, labels)

    best, *others = _CANDIDATES
    solved = best.solve(fitted, dim)
    base = precision(solved, 0.0)
    for candidate in others:
        if candidate.prior != PRIORS[0] and candidate.target != best.target:
            continue  # other priors are tried with the better target only
        rival = candidate.solve(fitted, dim)
        gain = precision(rival, 0.0) - base
        if gain.mean() > gain.std() / len(gain) ** 0.5:
            best, solved, base = candidate, rival, base + gain
    free = [residual for residual in RESIDUALS if precision(solved, residual).mean() >= base.mean()]
    return replace(best, residual=max(free, default=0.0))


def _precision(projection: Projection, features: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """mAP@R of every image, searched among the others."""
    z = F.normalize(projection(features), dim=1).float().numpy()
    return evaluate_self(z, labels.numpy(), (1,)).map_at_r_per_query
