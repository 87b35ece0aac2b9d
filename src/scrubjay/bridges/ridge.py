"""Ridge regression towards the identity: z → A z, a linear map in closed form.

A = argmin Σ_i ‖A s_i − t_i‖² + λN ‖A − I‖² = (Σ t sᵀ + λN·I)(Σ s sᵀ + λN·I)⁻¹
(Hoerl and Kennard, Ridge Regression, Technometrics 1970)

A is fitted to new classes and applied to old ones: the larger λ, the less it changes directions in which the new
classes vary little. One eigendecomposition of Σ s sᵀ serves all λ. Where the spaces differ in dimension, I is the
rectangular matrix with ones on its diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scrubjay.bridges._fitter import BridgeFitter, Vectors, cut, padded


class Ridge(BridgeFitter):
    """A linear map in closed form."""

    rank = 1
    strengths = (1.0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4)
    default = 1e-2
    min_strength_without_gallery = 1e-1

    def fit(self, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[dict[str, Vectors]]:
        """`weight` (d', d) for each strength λ."""
        s, t = (array.astype(np.float64) for array in padded(source, target))
        values, V = np.linalg.eigh(s.T @ s / len(s))
        values, correlation = np.maximum(values, 0), t.T @ (s @ V) / len(s)  # in the basis of eigenvectors
        maps = [((correlation + strength * V) / (values + strength)) @ V.T for strength in strengths]
        return [{"weight": cut(A, source, target)} for A in maps]
