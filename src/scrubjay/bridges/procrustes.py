"""The rotation that fits best: z ↦ R z, R = argmin Σ_i ‖R s_i − t_i‖² over orthogonal R = U Vᵀ of Σ_i t_i s_iᵀ + εI.

Schönemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika 1966. The trace of the identity
leaves directions alone that no picture shows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

CHANGES_DIMENSION = True
PRIOR = 1e-3
"""ε, as a share of the mean eigenvalue."""


def fit(source: NDArray[np.float32], target: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Tensors: `R` (d′, d), with orthonormal rows or columns."""
    M = target.astype(np.float64).T @ source.astype(np.float64)
    M += PRIOR * len(source) / min(M.shape) * np.eye(*M.shape)
    U, _, Vt = np.linalg.svd(M, full_matrices=False)
    return {"R": (U @ Vt).astype(np.float32)}


def apply(tensors: Mapping[str, NDArray[np.float32]], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, d) → (N, d′), not yet of unit norm."""
    return vectors @ tensors["R"].T
