"""FeCAM: Mahalanobis distances to the class means of a fixed trunk's features, with one covariance for all classes.

z = normalize(R·(s − s̄)),   s_c = −(x − μ_c)ᵀ P (x − μ_c),   x = sign(φ)·√|φ| / ‖√|φ|‖
P⁻¹_ij = Σ_ij / √(Σ_ii Σ_jj),   Σ = S/N + γ·v·I + γ·u·(11ᵀ − I)

φ: trunk features, by default mean and standard deviation of every stage's map (`network.features`). x: Tukey's
transform with exponent 1/2, scaled to unit norm (`network.transform = "root"`). μ_c: class means of x, scaled to unit
norm. S/N: covariance of x within classes, v and u the means of its diagonal and of its other elements, γ: shrinkage.
P⁻¹ is the shrunk covariance as a matrix of correlations; as in the paper, x is not divided by the deviations.
Goswami et al., NeurIPS 2023.

The paper classifies by the largest score s_c. Here the vector of all scores is the embedding, less its mean s̄ over the
classes: −xᵀ P x is part of every score and decides nothing. What remains is linear in x. With more classes than
`network.dim` it is projected to the axes along which scores are largest in the mean of squares. R: the rotation that
brings the coordinates closest to those of the previous generation (`align`). γ is chosen in the first session, fitted
on half of its images and with the highest accuracy of classifying the other half, and stays; the paper's is 1.

This is the paper's variant with a covariance that all classes share: one for each class is C·p² numbers, 136 MB a class
with the default features. The paper averages the sessions' covariances, weighted by their numbers of classes, and those
include the distances between the class means of a session; here Σ is pooled within all classes, so that the result does
not depend on how the classes are divided into sessions. Means are taken after the transform, not before it. The paper
trains the trunk in the first session; here it stays as it is.
Keeps the counts and means of the classes, and the scatter within classes.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from scrubjay.closed_form.discriminant import RIDGE, Projection
from scrubjay.closed_form.statistics import Statistics
from scrubjay.components.linear_embedding import LinearEmbedding, LinearEmbeddingOptions
from scrubjay.errors import DataError
from scrubjay.methods import Method, MethodOptions
from scrubjay.models.embedder import Network
from scrubjay.models.transform import Kind

SHRINKAGES = (1.0, 0.1, 0.3, 3.0, 10.0, 30.0)
"""Candidates for γ; the first is the paper's, and is kept where no other one is better."""


class FeCAMOptions(LinearEmbeddingOptions, MethodOptions):
    """Options of the covariance."""

    shrinkage: Annotated[float, Field(ge=0)] | Literal["first"] = "first"
    """γ, share of the mean variance and of the mean covariance that is added to the covariance; "first" chooses it on
    the first session's images; the paper's value is 1."""


class FeCAM(LinearEmbedding, Method):
    """Mahalanobis scores of all classes as embedding."""

    Options = FeCAMOptions
    options: FeCAMOptions
    default_transform: ClassVar[Kind] = "root"
    shrinkage: Tensor

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.register_buffer("shrinkage", torch.tensor(torch.nan, dtype=torch.float64))

    def choose(self, fitted: Statistics, held_out: Statistics, crops: tuple[Tensor, Tensor]) -> None:
        """Set γ."""
        given = self.options.shrinkage
        self.shrinkage.fill_(best_shrinkage(fitted, *crops) if given == "first" else given)

    def fit(self, total: Statistics) -> Projection:
        """The scores of all classes, less their mean and what all have in common."""
        return scores(total, correlations(total, float(self.shrinkage)))


def correlations(statistics: Statistics, shrinkage: float) -> Tensor:
    """P⁻¹, the shrunk covariance within classes as correlations: float64 (p, p) with a diagonal of 1.

    Args:
        statistics: statistics of the features.
        shrinkage: γ.
    """
    covariance = statistics.scatter / max(statistics.total, 1)
    p = len(covariance)
    trace = float(covariance.diagonal().sum())
    variance, mean = trace / p, (float(covariance.sum()) - trace) / max(p * (p - 1), 1)
    covariance += shrinkage * mean
    covariance.diagonal().add_(shrinkage * (variance - mean) + (RIDGE * variance if variance > 0 else 1.0))
    deviations = covariance.diagonal().sqrt()
    return covariance.div_(deviations).div_(deviations[:, None])


def scores(statistics: Statistics, correlation: Tensor) -> Projection:
    """The map x → s − s̄.

    Args:
        statistics: statistics of the features.
        correlation: P⁻¹, float64 (p, p).

    Raises:
        DataError: P⁻¹ is not positive definite.
    """
    root, failed = torch.linalg.cholesky_ex(correlation)
    if int(failed):
        raise DataError(
            "the covariance of the trunk's features is not positive definite: the shrinkage is 0 with fewer images "
            "than features, or the statistics are damaged; set method.shrinkage to 0.1 or more."
        )
    means = F.normalize(statistics.means, dim=1)
    weighted = torch.cholesky_solve(means.T, root).T
    centred = Projection(2 * weighted, -(weighted * means).sum(1))
    return Projection(centred.weight - centred.weight.mean(0), centred.bias - centred.bias.mean())


def best_shrinkage(fitted: Statistics, features: Tensor, labels: Tensor) -> float:
    """γ with which most images get the largest score from their own class; the paper's where no other one is better.

    Args:
        fitted: statistics without these images.
        features: (N, p).
        labels: int64 (N,).
    """

    def right(shrinkage: float) -> int:
        found = scores(fitted, correlations(fitted, shrinkage))(features).argmax(1)
        return int((fitted.labels[found] == labels).sum())

    return max(SHRINKAGES, key=right) if len(labels) else SHRINKAGES[0]
