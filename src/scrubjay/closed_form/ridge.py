"""Ridge regression of class targets on features, from accumulated statistics.

    G = Σ_i φ_i φ_iᵀ = S + Σ_c N_c m_c m_cᵀ,   Q = Σ_i φ_i t_iᵀ = Σ_c N_c m_c t_cᵀ,   B = Qᵀ (G + λI)⁻¹,   y = B φ

t_c: target of class c. There is no intercept. Statistics with a class's mean, count and scatter determine G and Q
exactly, so the solution does not depend on the order in which images came.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scrubjay.closed_form.discriminant import Projection
from scrubjay.closed_form.statistics import Statistics
from scrubjay.errors import DataError

PENALTIES = tuple(10.0**power for power in range(-6, 2))
"""Candidates for λ, as multiples of the mean of the diagonal of G."""


def gram(statistics: Statistics) -> Tensor:
    """G, the sum of outer products of all feature vectors: float64 (p, p)."""
    rows = statistics.counts.double().sqrt()[:, None] * statistics.means
    return statistics.scatter + rows.T @ rows


def regress(statistics: Statistics, targets: Tensor, penalty: float, gram_matrix: Tensor | None = None) -> Projection:
    """The map B with the smallest Σ_i ‖B φ_i − t_i‖² + λ‖B‖².

    Args:
        statistics: statistics of the features.
        targets: t, float64 (C, q), a row for each of `statistics.labels`.
        penalty: λ > 0.
        gram_matrix: G of these statistics, where it is known already.

    Raises:
        DataError: G + λI is not positive definite.
    """
    regularised = gram(statistics) if gram_matrix is None else gram_matrix.clone()
    regularised.diagonal().add_(penalty)
    root, failed = torch.linalg.cholesky_ex(regularised)
    if int(failed):
        raise DataError(
            f"the features' second moments plus the penalty {penalty:g} are not positive definite: all features may "
            "be 0, or the statistics are damaged; set a larger method.penalty."
        )
    products = statistics.means.T @ (statistics.counts.double()[:, None] * targets)
    weight = torch.cholesky_solve(products, root).T.contiguous()
    return Projection(weight, weight.new_zeros(len(weight)))


def squared_error(projection: Projection, statistics: Statistics, targets: Tensor) -> float:
    """Mean of ‖y(φ_i) − t_i‖² over the vectors of the statistics, which alone determine it.

    Args:
        projection: y, a map to q coordinates.
        statistics: statistics of the features.
        targets: t, float64 (C, q), a row for each of `statistics.labels`.
    """
    spread = ((projection.weight @ statistics.scatter) * projection.weight).sum()
    offsets = (projection(statistics.means) - targets).square().sum(1)
    return float(spread + statistics.counts.double() @ offsets) / statistics.total


def choose_penalty(fitted: Statistics, held_out: Statistics, targets: Callable[[Statistics], Tensor]) -> float:
    """λ with the smallest error on images that are not in the statistics.

    Args:
        fitted: statistics of one half of the images.
        held_out: statistics of the other half; all its classes are in `fitted`.
        targets: gives the targets for statistics.

    Returns:
        One of `PENALTIES` times the mean of the diagonal of G; a thousandth of that mean where nothing is held out.
    """
    matrix = gram(fitted)
    scale = float(matrix.diagonal().mean()) or 1.0
    if not held_out.total:
        return 1e-3 * scale
    wanted = targets(fitted)
    expected = wanted[torch.searchsorted(fitted.labels, held_out.labels)]
    errors = {
        penalty: squared_error(regress(fitted, wanted, penalty * scale, matrix), held_out, expected)
        for penalty in PENALTIES
    }
    return scale * min(errors, key=lambda penalty: errors[penalty])
