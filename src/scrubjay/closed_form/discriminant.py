"""Fisher's linear discriminant analysis as an embedding, solved from accumulated statistics.

    Σ_w = S/N,   Σ = (1 − γ)·Σ_w + γ·D + ε·mean(diag(Σ_w))·I,   M = [m_c − ḡ],   ḡ = (1/C) Σ_c m_c
    D = diag(Σ_w) ("diagonal") or mean(diag(Σ_w))·I ("identity")
    W: the leading min(C − 1, dim) solutions w of  (1/C)·M Mᵀ w = λ Σ w  with wᵀ Σ w = 1
    V: further axes, VᵀΣV = I and VᵀΣW = 0
    z = normalize([Wᵀ(φ − ḡ), √ρ·Vᵀ(φ − ḡ)])

Fisher 1936; shrinkage as in Friedman: Regularized Discriminant Analysis, JASA 1989. As a
classifier over a fixed network it is Deep SLDA (Hayes and Kanan: Lifelong Machine Learning with Deep Streaming Linear
Discriminant Analysis, CVPR Workshops 2020). The channels of a trunk differ in scale by orders of magnitude: the
diagonal as target treats them alike, the identity trusts those of large variance more. The class means count equally,
whatever the number of their images.

W holds all that separates the learned classes; with few of them it has few axes, and images of other classes are hardly
told apart. V, weighted by ρ, keeps directions of large variance beyond W.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from scrubjay.closed_form.statistics import Statistics
from scrubjay.errors import DataError
from scrubjay.losses._linalg import eigh, svd

RIDGE = 1e-6
"""ε: keeps Σ invertible where a feature is constant within all classes."""
NEGLIGIBLE = 1e-10
"""Axes whose λ is below this share of the largest one are rounding errors, and are left out."""
RESIDUAL_AXES = 128
"""Largest number of axes in V; more change little."""

Weighting = Literal["equal", "plda"]
Target = Literal["diagonal", "identity"]


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear map of trunk features before normalisation: y = A φ + b.

    Attributes:
        weight: A, float64 (r, p).
        bias: b, float64 (r,).
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Trunk features (N, p) → float64 (N, r), not normalised."""
        return features.double() @ self.weight.T + self.bias

    def rotated(self, R: Tensor) -> Projection:
        """The map R y.

        Args:
            R: float64 (d, r).
        """
        return Projection(R @ self.weight, R @ self.bias)


@dataclass(frozen=True, slots=True)
class Discriminants:
    """The discriminant axes of a set of statistics, most discriminating first.

    Attributes:
        axes: W, float64 (p, r), with Wᵀ Σ W = I.
        centre: ḡ, float64 (p,).
        values: λ, float64 (r,), descending: variance of the class means along each axis, relative to the variance
            within classes.
        root: lower Cholesky factor of Σ, float64 (p, p).
        within: Σ_w, float64 (p, p).
    """

    axes: Tensor
    centre: Tensor
    values: Tensor
    root: Tensor
    within: Tensor

    def projection(
        self, residual_weight: float = 0.0, dim: int | None = None, weighting: Weighting = "equal"
    ) -> Projection:
        """The map to the embedding before it is normalised: [Wᵀ(φ − ḡ), √ρ·Vᵀ(φ − ḡ)].

        Args:
            residual_weight: ρ; with 0 there is no V.
            dim: largest number of axes of W and V together; None: no limit.
            weighting: factor on the axes of W: 1, or with "plda" √(λ/(1 + λ)), the reliability of a class mean along
                the axis (probabilistic linear discriminant analysis; Ioffe, ECCV 2006).
        """
        axes = self.axes
        if weighting == "plda":
            axes = axes * (self.values / (1 + self.values)).sqrt()
        room = RESIDUAL_AXES if dim is None else min(RESIDUAL_AXES, dim - axes.shape[1])
        if residual_weight > 0 and room > 0:
            axes = torch.cat([axes, residual_weight**0.5 * self.residual_axes(room)], dim=1)
        return Projection(axes.T, -self.centre @ axes)

    def residual_axes(self, number: int) -> Tensor:
        """V, float64 (p, number): axes beyond W along which the images of a class vary most.

        In coordinates where Σ is the identity, one step of subspace iteration from a fixed random start with Σ_w,
        restricted to the complement of W. It depends on the statistics alone, and costs one matrix product where an
        eigendecomposition takes minutes; further steps change no figure.
        """
        number = min(number, len(self.root) - self.axes.shape[1])
        W = self.root.T @ self.axes
        start = torch.randn(len(self.root), number, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        start -= W @ (W.T @ start)
        moved = self.within @ torch.linalg.solve_triangular(self.root.T, start, upper=True)
        moved = torch.linalg.solve_triangular(self.root, moved, upper=False)
        moved -= W @ (W.T @ moved)
        basis, triangle = torch.linalg.qr(moved)
        basis = basis * triangle.diagonal().sign()  # so that the result does not depend on the LAPACK library
        axes: Tensor = torch.linalg.solve_triangular(self.root.T, basis, upper=True)
        return axes


def shrunk_covariance(statistics: Statistics, shrinkage: float, target: Target = "diagonal") -> Tensor:
    """Σ, the shrunk covariance within classes: float64 (p, p).

    Args:
        statistics: statistics of at least one class.
        shrinkage: γ in 0 … 1.
        target: D, what it is shrunk towards.
    """
    return _shrunk(statistics.scatter / max(statistics.total, 1), shrinkage, target)


def _shrunk(within: Tensor, shrinkage: float, target: Target) -> Tensor:
    diagonal = within.diagonal().clamp_min(0)
    scale = float(diagonal.mean())
    shrunk = (1 - shrinkage) * within
    # A trunk may be so uniform that no image differs from its class mean; any multiple of I is then as good.
    shrunk.diagonal().add_(shrinkage * (diagonal if target == "diagonal" else scale))
    shrunk.diagonal().add_(RIDGE * scale if scale > 0 else 1.0)
    return shrunk


def solve(statistics: Statistics, shrinkage: float, dim: int, target: Target = "diagonal") -> Discriminants:
    """The leading discriminant axes.

    Args:
        statistics: statistics of at least two classes.
        shrinkage: γ in 0 … 1.
        dim: largest number of axes.
        target: what the covariance is shrunk towards.

    Raises:
        DataError: there are fewer than two classes, their means are equal, or the covariance is not positive definite.
    """
    classes = len(statistics.labels)
    if classes < 2:
        raise DataError(
            f"a discriminant metric needs at least two classes and there is {classes}: add images of another class."
        )
    within = statistics.scatter / statistics.total
    root = cholesky(_shrunk(within, shrinkage, target))
    centre = statistics.means.mean(0)
    whitened = torch.linalg.solve_triangular(root, (statistics.means - centre).T / classes**0.5, upper=False)
    wide = whitened.shape[1] > whitened.shape[0]
    gram = whitened @ whitened.T if wide else whitened.T @ whitened
    values, vectors = eigh(gram, "the scatter of the class means")
    values, vectors = values.flip(0), vectors.flip(1)
    kept = int((values > NEGLIGIBLE * values[0].clamp_min(torch.finfo(torch.float64).tiny)).sum())
    number = min(kept, classes - 1, dim)
    if number == 0:
        raise DataError(
            "all classes have the same mean features, so no metric tells them apart: the images may be blank or the "
            "same in all classes, or the backbone untrained."
        )
    values, vectors = values[:number], vectors[:, :number]
    axes = vectors if wide else whitened @ (vectors / values.sqrt())
    return Discriminants(torch.linalg.solve_triangular(root.T, axes, upper=True), centre, values, root, within)


def cholesky(covariance: Tensor) -> Tensor:
    """The lower Cholesky factor of a shrunk covariance float64 (p, p).

    Raises:
        DataError: it is not positive definite.
    """
    root: Tensor
    root, failed = torch.linalg.cholesky_ex(covariance)
    if int(failed):
        raise DataError(
            "the covariance of the trunk's features is not positive definite: the shrinkage is 0 with fewer images "
            "than features, or the statistics are damaged; set method.prior above 0."
        )
    return root


def aligned(new: Projection, old: Projection, statistics: Statistics) -> Projection:
    """The new map followed by the rotation that brings its coordinates closest to the old ones.

    R = argmin E‖R y_new(φ) − y_old(φ)‖² over matrices with orthonormal columns: R = U Vᵀ of the singular value
    decomposition U S Vᵀ of E[y_old y_newᵀ] (orthogonal Procrustes, Schönemann 1966). The expectation is over the images
    of the statistics, every class counting equally. Cosines within the new space do not change.

    Args:
        new: map to r coordinates.
        old: map to d ≥ r coordinates; unused ones are 0.
        statistics: statistics of the images that both maps should agree on.

    Returns:
        The rotated map, to d coordinates.
    """
    return new.rotated(rotation(common_moment(new, old, statistics)))


def common_moment(new: Projection, old: Projection, statistics: Statistics) -> Tensor:
    """E[y_old y_newᵀ] over the images of the statistics, every class counting equally: float64 (d, r).

    Args:
        new: map to r coordinates.
        old: map of the same features to d coordinates.
        statistics: statistics of these features.
    """
    within = old.weight @ (statistics.scatter / max(statistics.total, 1)) @ new.weight.T
    return within + old(statistics.means).T @ new(statistics.means) / max(len(statistics.labels), 1)


def rotation(moment: Tensor) -> Tensor:
    """The matrix R with orthonormal columns that maximises tr(Rᵀ M): U Vᵀ of the singular value decomposition of M.

    Args:
        moment: M, float64 (d, r), d ≥ r.
    """
    d, r = moment.shape
    padded = moment.new_zeros(d, d)
    padded[:, :r] = moment
    U, _, Vh = svd(padded, "the common moment of two generations")
    return (U @ Vh)[:, :r]
