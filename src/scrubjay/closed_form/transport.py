"""Statistics of features of an old trunk, carried to a new one by a linear map that is fitted on pairs of features.

    φ' = φ + B φ + b + ε,   m' = m + B m + b,   S' = (I + B) S (I + B)ᵀ + N·Cov(ε)

φ and φ': features of one image by the old and by the new trunk. B minimises, over the pairs, the squared error plus
λ·‖B·diag(σ)‖², σ the standard deviations of the old features within classes: the channels of a trunk differ in scale by
orders of magnitude, and a direction in which the pairs do not vary is left as it was. Only the rows of B and entries of
b of features that differ between the trunks are computed. λ is the candidate with the smallest error on classes that
were left out, since the map is needed for other images than those of the pairs; ε is what remains there, and Cov its
covariance within classes.

A ridge map from old to new features for statistics in closed form: dual projection (DPCR, ICML 2025). Towards the
identity, with λ chosen on classes left out and with the covariance of the rest, this project's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scrubjay.closed_form.discriminant import Projection
from scrubjay.closed_form.statistics import Statistics
from scrubjay.losses._linalg import eigh

PENALTIES = tuple(10.0**power for power in (-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 1.0, 2.0))
"""Candidates for λ, as multiples of the mean squared norm of the standardised and centred features."""
FOLDS = 4
"""Number of parts of the classes that are left out in turn."""


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """A map from old to new features, φ' = φ + B φ + b.

    Attributes:
        changed: int64 (q,), positions of the features that differ between the trunks, ascending.
        weight: rows of B of these features, float64 (q, p).
        bias: entries of b of these features, float64 (q,).
        residual: covariance of ε of these features within classes, float64 (q, q).
    """

    changed: Tensor
    weight: Tensor
    bias: Tensor
    residual: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Old features (N, p) → expected new features float64 (N, p)."""
        mapped = features.double().clone()
        mapped[:, self.changed] += features.double() @ self.weight.T + self.bias
        return mapped

    def transported(self, statistics: Statistics, era: str) -> Statistics:
        """Statistics of old features as those of new ones.

        Args:
            statistics: statistics of features of the old trunk.
            era: identity of the features of the new trunk.
        """
        moved = self.weight @ statistics.scatter  # B S
        scatter = statistics.scatter.clone()
        scatter[self.changed] += moved
        scatter[:, self.changed] += moved.T
        noise = statistics.total * self.residual
        scatter[self.changed[:, None], self.changed] += moved @ self.weight.T + noise
        means = self(statistics.means)
        return Statistics(era, statistics.labels, statistics.counts, means, (scatter + scatter.T) / 2)

    def before(self, projection: Projection) -> Projection:
        """A map of new features as a map of old ones: y(φ') with the expected φ' in its place."""
        changed = projection.weight[:, self.changed]
        weight = projection.weight + changed @ self.weight
        return Projection(weight, projection.bias + changed @ self.bias)


def fit(old: Tensor, new: Tensor, labels: Tensor, scales: Tensor) -> FeatureMap:
    """The map of the smallest error on classes that are left out.

    Solved in its dual form, which takes N² memory and N³ operations.

    Args:
        old: (N, p) features of images by the old trunk, N ≥ 1.
        new: (N, p) features of the same images by the new trunk.
        labels: int64 (N,), classes of the images.
        scales: σ, (p,) standard deviations of the old features, above 0; see `Statistics.deviations`.
    """
    changed = (old != new).any(0).nonzero().flatten()
    pairs = _Pairs(old.double(), (new.double() - old.double())[:, changed], scales.double(), changed)
    classes = torch.unique(labels, return_inverse=True)[1]
    errors = torch.zeros(len(PENALTIES), dtype=torch.float64)
    for fitted, left_out in _folds(classes):
        errors += torch.stack([missed.square().sum() for missed in pairs.missed(fitted, left_out, PENALTIES)])
    best = int(errors.argmin()) if bool(errors.any()) else -1
    rest = torch.zeros_like(pairs.changes)
    for fitted, left_out in _folds(classes):
        (rest[left_out],) = pairs.missed(fitted, left_out, PENALTIES[best:][:1])
    weight, bias = pairs.solve(PENALTIES[best])
    return FeatureMap(changed, weight, bias, Statistics.of("", rest, labels).scatter / len(rest))


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Pairs of features to fit a map on.

    Attributes:
        old: float64 (N, p), old features.
        changes: float64 (N, q), new minus old features, where they differ.
        scales: σ, float64 (p,).
        changed: int64 (q,), positions of the features that differ.
    """

    old: Tensor
    changes: Tensor
    scales: Tensor
    changed: Tensor

    def missed(self, fitted: Tensor, left_out: Tensor, penalties: Sequence[float]) -> Iterator[Tensor]:
        """For each penalty the changes of pairs that are left out minus those that the map of the others gives.

        Args:
            fitted: bool (N,), pairs that the map is fitted on.
            left_out: bool (N,), pairs that it is tried on.
            penalties: candidates for λ.

        Yields:
            float64 (M, q).
        """
        mean, offset = self.old[fitted].mean(0), self.changes[fitted].mean(0)
        rows, others = ((self.old[part] - mean) / self.scales for part in (fitted, left_out))
        kernel = rows @ rows.T
        values, vectors = eigh(kernel, "the features that a map is fitted on")
        targets, across = vectors.T @ (self.changes[fitted] - offset), others @ (rows.T @ vectors)
        scale = float(kernel.diagonal().mean()) or 1.0
        for penalty in penalties:
            found = across @ (targets / (values.clamp_min(0) + penalty * scale)[:, None])
            yield self.changes[left_out] - found - offset

    def solve(self, penalty: float) -> tuple[Tensor, Tensor]:
        """Rows of B (q, p) and entries of b (q,) of the changed features, by all pairs.

        Args:
            penalty: λ.
        """
        mean, offset = self.old.mean(0), self.changes.mean(0)
        rows = (self.old - mean) / self.scales
        kernel = rows @ rows.T
        kernel.diagonal().add_(penalty * (float(kernel.diagonal().mean()) or 1.0))
        solved = torch.cholesky_solve(self.changes - offset, torch.linalg.cholesky(kernel))
        weight = (rows.T @ solved).T / self.scales
        return weight, offset - weight @ mean


def _folds(classes: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Which pairs a map is fitted on, and which are left out: every class is left out once; nothing with one class."""
    parts = classes % FOLDS
    for part in torch.unique(parts) if bool((parts > 0).any()) else ():
        yield parts != part, parts == part
