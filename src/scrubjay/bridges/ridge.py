"""The linear map of least squares, drawn towards the identity: z → W z, W = argmin Σ_i ‖W s_i − t_i‖² + λN ‖W − I‖².

W = (Σ t sᵀ + λN·I)(Σ s sᵀ + λN·I)⁻¹ (Hoerl and Kennard, 1970). Directions that no picture shows stay as they are.
"""

from __future__ import annotations

import numpy as np

from scrubjay.bridges._kind import Kind, Vectors, cut, squared


class Ridge(Kind):
    """A matrix in closed form."""

    rank = 3
    strengths = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)

    def fit(self, source: Vectors, target: Vectors, strength: float) -> dict[str, Vectors]:
        """`weight` (d', d)."""
        s, t = (each.astype(np.float64) for each in squared(source, target))
        prior = strength * len(s) * np.eye(s.shape[1])
        W = np.linalg.solve(s.T @ s + prior, s.T @ t + prior).T
        return {"weight": cut(W.astype(np.float32), source, target)}
