"""The linear map of least squares, drawn towards the identity: z ↦ A z, A = argmin Σ_i ‖A s_i − t_i‖² + λN ‖A − I‖².

A = (Σ t sᵀ + λN·I)(Σ s sᵀ + λN·I)⁻¹. Of several λ the one is taken that does best on pictures it was not fitted on.
Directions that no picture shows stay as they are, which old classes live from. Hoerl and Kennard, 1970.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

CHANGES_DIMENSION = True
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""λ that are tried; vectors have unit norm."""
FOLDS = 5


def fit(source: NDArray[np.float32], target: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Tensors: `A` (d′, d)."""
    s, t = source.astype(np.float64), target.astype(np.float64)
    best = min(STRENGTHS, key=lambda strength: _error(s, t, strength)) if len(s) >= FOLDS else STRENGTHS[-1]
    return {"A": solve(s, t, best).astype(np.float32)}


def apply(tensors: Mapping[str, NDArray[np.float32]], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, d) → (N, d′), not yet of unit norm."""
    return vectors @ tensors["A"].T


def solve(s: NDArray[np.float64], t: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """A for one λ."""
    prior = strength * len(s)
    left = s.T @ s + prior * np.eye(s.shape[1])
    right = s.T @ t + prior * np.eye(s.shape[1], t.shape[1])
    A: NDArray[np.float64] = np.linalg.solve(left, right).T
    return A


def _error(s: NDArray[np.float64], t: NDArray[np.float64], strength: float) -> float:
    """Mean 1 − cosine on pictures left out, one fold after the other; folds are runs, that is classes, of pictures."""
    total = 0.0
    for part in np.array_split(np.arange(len(s)), FOLDS):
        rest = np.setdiff1d(np.arange(len(s)), part)
        found = s[part] @ solve(s[rest], t[rest], strength).T
        norms = np.maximum(np.linalg.norm(found, axis=1), 1e-12)
        total += float((1 - np.vecdot(found, t[part]) / norms).sum())
    return total / len(s)
