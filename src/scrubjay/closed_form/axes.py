"""Axes that keep the most of a map's outputs, or all that a nearest class mean classifier sees."""

from __future__ import annotations

import torch
from torch import Tensor

from scrubjay.closed_form.discriminant import NEGLIGIBLE, RIDGE, Projection
from scrubjay.closed_form.statistics import Statistics
from scrubjay.errors import DataError
from scrubjay.losses._linalg import eigh


def leading(projection: Projection, statistics: Statistics, dim: int) -> Projection:
    """A map followed by a projection to the `dim` axes along which its outputs are largest, in the mean of squares.

    The mean is over the images of the statistics, every class counting equally. Where the map has at most `dim`
    outputs it is returned as it is.
    """
    if len(projection.bias) <= dim:
        return projection
    within = projection.weight @ (statistics.scatter / max(statistics.total, 1)) @ projection.weight.T
    means = projection(statistics.means)
    _, vectors = eigh(within + means.T @ means / len(means), "the second moment of the outputs")
    return projection.rotated(vectors[:, -dim:].flip(1).T)


def class_mean_axes(statistics: Statistics, dim: int, standardise: bool) -> Projection:
    """The orthogonal projection onto the affine subspace of the class means, centred at their mean.

    y = Vᵀ D (φ − ḡ), V an orthonormal basis of the span of D (m_c − ḡ), D = I or diag(1/σ_j)

    ‖D (φ − m_c)‖² = ‖y(φ) − y(m_c)‖² + a constant over the classes, so no decision of a nearest class mean classifier
    changes, as long as C − 1 ≤ dim; otherwise V has the `dim` axes of largest variance of the means.

    Args:
        statistics: statistics of at least two classes.
        dim: largest number of axes.
        standardise: divide every feature by its standard deviation σ_j within classes.

    Raises:
        DataError: there are fewer than two classes, or their means are equal.
    """
    factors = torch.ones(statistics.dim, dtype=torch.float64)
    if standardise:
        variances = statistics.scatter.diagonal().clamp_min(0) / max(statistics.total, 1)
        floor = RIDGE * float(variances.mean())
        factors = variances.clamp_min(floor if floor > 0 else 1.0).rsqrt()
    classes = len(statistics.labels)
    centre = statistics.means.mean(0) if classes else factors.new_zeros(statistics.dim)
    axes = _span(factors * (statistics.means - centre), dim)
    if classes < 2 or not axes.shape[1]:
        raise DataError(
            f"the mean features of {classes} classes span no subspace: add images of another class, or, if there are "
            "two or more, look whether their images are blank or the same in all classes."
        )
    weight = (factors[:, None] * axes).T
    return Projection(weight, -weight @ centre)


def _span(rows: Tensor, dim: int) -> Tensor:
    """Orthonormal basis (p, r) of the span of rows (C, p), r ≤ dim, axes of largest sums of squares first."""
    wide = len(rows) > rows.shape[1]
    values, vectors = eigh(rows.T @ rows if wide else rows @ rows.T, "the scatter of the class means")
    values, vectors = values.flip(0), vectors.flip(1)
    kept = min(int((values > NEGLIGIBLE * values[:1].clamp_min(torch.finfo(torch.float64).tiny)).sum()), dim)
    values, vectors = values[:kept], vectors[:, :kept]
    return vectors if wide else rows.T @ (vectors / values.sqrt())
