"""Distance of projected new embeddings from old ones, and the orthogonal Procrustes solution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scrubjay.losses._linalg import svd
from scrubjay.losses._precision import full_precision
from scrubjay.losses.l2 import l2


@full_precision
def projection(z_o: Tensor, projected: Tensor, squared: bool = True) -> Tensor:
    """Mean distance of projected new embeddings P(z_n) from the old ones.

    squared:   L = (1/B) Σ_i ‖P(z_n,i) − z_o,i‖²
    otherwise: L = (1/√d) (1/B) Σ_i ‖P(z_n,i) − z_o,i‖

    Args:
        z_o: (B, d) embeddings by the teacher.
        projected: (B, d) P(z_n); P linear, orthogonal, with an offset, or an MLP.
        squared: selects the formula.

    Returns:
        Scalar ≥ 0; 0 for B = 0. The gradient of the second form is 0 for an image whose two embeddings coincide.

    Source: the second form: Gu et al., Preserving Linear Separability in Continual Learning by Backward Feature
    Projection, CVPR 2023 (weight 1).
    """
    if squared:
        return l2(z_o, projected)
    distances: Tensor = torch.linalg.vector_norm(projected - z_o, dim=1)
    return distances.sum() / (max(len(projected), 1) * math.sqrt(projected.shape[1]))


@torch.no_grad()
@full_precision
def procrustes(a: Tensor, b: Tensor) -> Tensor:
    """Orthogonal Procrustes: the rotation or reflection that maps one set of vectors nearest to another.

    R = argmin_{RᵀR = I} ‖a R − b‖² = U Vᵀ,   U Σ Vᵀ = aᵀ b

    No gradient: that of U Vᵀ is infinite where singular values coincide. In directions that the vectors do not span, R
    is arbitrary.

    Args:
        a: (B, d) vectors, for the bridge z_n.
        b: (B, d) vectors, for the bridge z_o.

    Returns:
        (d, d) orthogonal; apply it as `a @ R`.

    Raises:
        ConfigError: a vector contains NaN or infinity.

    Source: Schönemann, A Generalized Solution of the Orthogonal Procrustes Problem, Psychometrika 1966.
    """
    U, _, Vh = svd(a.T @ b, "the correlation of the two spaces")
    R: Tensor = U @ Vh
    return R
