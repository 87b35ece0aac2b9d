"""Orthogonal Procrustes: z → R z, a rotation or reflection, which preserves all distances.

R = argmin_{RᵀR = I} (1/N) Σ_i ‖R s_i − t_i‖² + λ ‖R − I‖² = U Vᵀ,   U Σ Vᵀ = (1/N) Σ_i t_i s_iᵀ + λ I

Directions in which no image has a component are unchanged. Where the spaces differ in dimension, the smaller one is
padded with zeros.

Source: Schönemann, A Generalized Solution of the Orthogonal Procrustes Problem, Psychometrika 1966.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from scrubjay.bridges._fitter import BridgeFitter, Vectors, cut, padded
from scrubjay.losses.projection import procrustes


class Procrustes(BridgeFitter):
    """An orthogonal map."""

    rank = 3
    strengths = (1e-2, 1e-3)
    default = 1e-3

    def fit(self, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[dict[str, Vectors]]:
        """`weight` (d', d) for each strength λ."""
        s, t = (array.astype(np.float64) for array in padded(source, target))
        eye = torch.eye(s.shape[1], dtype=torch.float64)
        correlation = torch.from_numpy(t.T @ s / len(s))
        rotations = [procrustes(eye, correlation + strength * eye).numpy() for strength in strengths]
        return [{"weight": cut(rotation, source, target)} for rotation in rotations]
