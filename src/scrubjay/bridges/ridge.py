"""The linear map of least squares, drawn towards the identity: z → A z, A = argmin Σ_i ‖A s_i − t_i‖² + λN ‖A − I‖².

A = (Σ t sᵀ + λN·I)(Σ s sᵀ + λN·I)⁻¹ (Hoerl and Kennard, Ridge Regression, Technometrics 1970)

A is fitted to new classes and used on old ones: the greater λ, the less is done to directions that the new classes
hardly show. One eigendecomposition of Σ s sᵀ serves all λ. Where the spaces differ in dimension, I has ones on its
diagonal only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scrubjay.bridges._fitter import Kind, Vectors, cut, squared


class Ridge(Kind):
    """A matrix in closed form."""

    rank = 1
    strengths = (1.0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4)
    default = 1e-2
    blind = 1e-1

    def fit(self, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[dict[str, Vectors]]:
        """`weight` (d', d)."""
        wide, other = (each.astype(np.float64) for each in squared(source, target))
        values, V = np.linalg.eigh(wide.T @ wide / len(wide))
        values, along = np.maximum(values, 0), other.T @ (wide @ V) / len(wide)
        found = [((along + strength * V) / (values + strength)) @ V.T for strength in strengths]
        return [{"weight": cut(each, source, target)} for each in found]
