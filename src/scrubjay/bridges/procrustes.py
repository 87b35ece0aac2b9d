"""The rotation that fits best: z → W z, W = argmin Σ_i ‖W s_i − t_i‖² + λN ‖W − I‖² over WᵀW = I.

W = U Vᵀ of U Σ Vᵀ = Σ_i t_i s_iᵀ + λN·I (Schönemann, Psychometrika 1966). Directions that no picture shows stay.
"""

from __future__ import annotations

import numpy as np

from scrubjay.bridges._kind import Kind, Vectors, cut, squared


class Procrustes(Kind):
    """A rotation or reflection."""

    rank = 2
    strengths = (1e-4, 1e-3, 1e-2)

    def fit(self, source: Vectors, target: Vectors, strength: float) -> dict[str, Vectors]:
        """`weight` (d', d)."""
        s, t = squared(source, target)
        M = t.astype(np.float64).T @ s.astype(np.float64) + strength * len(s) * np.eye(s.shape[1])
        U, _, Vt = np.linalg.svd(M)
        return {"weight": cut((U @ Vt).astype(np.float32), source, target)}
