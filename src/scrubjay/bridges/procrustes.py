"""A rotation or reflection, which keeps all distances: z → R z, R = argmin Σ_i ‖R s_i − t_i‖² over orthogonal R.

R = argmin_{RᵀR = I} (1/N) Σ_i ‖R s_i − t_i‖² + λ ‖R − I‖² = U Vᵀ,   U Σ Vᵀ = (1/N) Σ_i t_i s_iᵀ + λ I

Directions that no image shows stay. Where the spaces differ in dimension, the smaller is filled up with zeros.

Source: Schönemann, A Generalized Solution of the Orthogonal Procrustes Problem, Psychometrika 1966.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from scrubjay.bridges._fitter import Kind, Vectors, cut, squared
from scrubjay.losses.projection import procrustes


class Procrustes(Kind):
    """An orthogonal matrix."""

    rank = 3
    strengths = (1e-2, 1e-3)
    default = 1e-3

    def fit(self, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[dict[str, Vectors]]:
        """`weight` (d', d)."""
        wide, other = (each.astype(np.float64) for each in squared(source, target))
        eye = torch.eye(wide.shape[1], dtype=torch.float64)
        correlation = torch.from_numpy(other.T @ wide / len(wide))
        found = [procrustes(eye, correlation + strength * eye).numpy() for strength in strengths]
        return [{"weight": cut(each, source, target)} for each in found]
