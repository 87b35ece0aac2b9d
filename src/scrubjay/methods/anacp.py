"""AnaCP: ridge regression of separated class anchors on random features of a fixed trunk.

z = normalize(R·B h),   h = GELU(W φ/‖φ‖),   B = Qᵀ (G + λI)⁻¹,   G = Σ_i h_i h_iᵀ,   Q = Σ_i h_i t_{c(i)}ᵀ

φ: trunk features, by default mean and standard deviation of every stage's map (`network.features`). W: random
directions, drawn once (`network.transform = "gelu"`, `network.random_features`; the papers have 5,000). The images of
class c are mapped to its target t_c, and the targets lie apart (`targets`):

    "anchors"          t_c: row c of normalize(U (S + I) Vᵀ Σ^(-1/2)),   U S Vᵀ = [m_c − h̄] Σ^(-1/2)
    "neural_collapse"  t_c = e_c − 1/C: a simplex, whose corners are equally far apart

m_c: class means, h̄: their mean, Σ: covariance within classes plus a multiple of I. Anchors: AnaCP, Momeni, Xiao and
Liu, NeurIPS 2025. Simplex: AnaNC, the same authors, AAAI 2026; they rotate it onto the class means, which changes no
cosine. R: the rotation that brings the coordinates closest to those of the previous generation (`align`). The cosines
depend on the inner products of the targets only, so B maps to C coordinates; with more classes than `network.dim` it is
projected to the axes along which outputs are largest in the mean of squares.

What differs from the papers:
Both were read from the authors' code. m_c and Σ are those of h, theirs are those of φ/‖φ‖, which would need the scatter
of φ too. One set of random directions takes the place of the mean over three. The mean h̄ that they add to the anchors
is left out: it is a thousandth as long. Their second regression, on samples drawn around the class means, makes a
classifier, which retrieval does not need.
AnaCP's code adds the images of a session to the counts before it weighs the session's covariance by them, and adds the
multiple of I once, in the first session, so that its result depends on the order of the sessions. It also raises the
singular value 0 that centring leaves, whose direction is a rounding error. AnaNC's code takes the class means as
targets in the first session.
λ is fixed in the papers. Here it is chosen in the first session, fitted on half of its images and with the smallest
squared error on the other half, and stays. The papers also train adapters in the first session; here the trunk stays
as it is.
Keeps the counts and means of the classes and the scatter of h within classes, which determine G, Q, m_c and Σ.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from scrubjay.closed_form.discriminant import cholesky
from scrubjay.closed_form.statistics import Statistics
from scrubjay.components.ridge_embedding import RidgeEmbedding, RidgeOptions
from scrubjay.errors import DataError
from scrubjay.losses._linalg import eigh
from scrubjay.methods import Method, MethodOptions
from scrubjay.models.embedder import Network
from scrubjay.models.transform import Kind

IDENTITY_SHARE = 0.1
"""Multiple of I in Σ, as a share of the mean variance."""
_NEGLIGIBLE = 1e-10
"""Singular values whose square is below this share of the largest one's are rounding errors."""


class AnaCPOptions(RidgeOptions, MethodOptions):
    """Options of the ridge regression."""

    targets: Literal["anchors", "neural_collapse"] = "anchors"
    """Where the images of each class are drawn to: to separated class means, or to the corners of a simplex (AnaNC)."""


class AnaCP(RidgeEmbedding, Method):
    """A ridge regression that draws the images of each class to an anchor of its own."""

    Options = AnaCPOptions
    options: AnaCPOptions
    default_transform: ClassVar[Kind] = "gelu"

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.make_penalty()

    def targets(self, statistics: Statistics) -> Tensor:
        """Coordinates of t_c with their inner products: float64 (C, C)."""
        if self.options.targets == "neural_collapse":
            classes = len(statistics.labels)
            return torch.eye(classes, dtype=torch.float64) - 1 / classes
        return coordinates(anchors(statistics))


def anchors(statistics: Statistics) -> Tensor:
    """The separated class means t_c of AnaCP: float64 (C, p), unit rows.

    U (S + I) Vᵀ Σ^(-1/2) = U (I + S⁻¹) Uᵀ [m_c − h̄] Σ⁻¹, so that no square root of Σ is needed.

    Args:
        statistics: statistics of at least two classes.

    Raises:
        DataError: the class means are equal.
    """
    covariance = statistics.scatter / max(statistics.total, 1)
    share = IDENTITY_SHARE * float(covariance.diagonal().mean())
    covariance.diagonal().add_(share if share > 0 else 1.0)
    offsets = statistics.means - statistics.means.mean(0)
    solved = torch.cholesky_solve(offsets.T, cholesky(covariance))
    squares, U = eigh(offsets @ solved, "the scatter of the class means")
    kept = squares > (_NEGLIGIBLE * squares[-1]).clamp_min(torch.finfo(torch.float64).tiny)
    if not bool(kept.any()):
        raise DataError(
            f"the mean features of {len(offsets)} classes are equal, so nothing separates them: their images may be "
            "blank or the same in all classes, or the backbone untrained."
        )
    spread = (U[:, kept] * (1 + squares[kept].rsqrt())) @ U[:, kept].T
    return F.normalize(spread @ solved.T, dim=1)


def coordinates(rows: Tensor) -> Tensor:
    """Vectors (C, C) with the inner products of the rows (C, p)."""
    values, vectors = eigh(rows @ rows.T, "the inner products of the anchors")
    return vectors * values.clamp_min(0).sqrt()
