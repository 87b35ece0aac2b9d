"""The mean of what has moved: z ↦ normalise(z + m), m = (1/N) Σ_i (t_i − s_i)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

CHANGES_DIMENSION = False


def fit(source: NDArray[np.float32], target: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Tensors: `m` (d,)."""
    shift = target.astype(np.float64).mean(axis=0) - source.astype(np.float64).mean(axis=0)
    return {"m": shift.astype(np.float32)}


def apply(tensors: Mapping[str, NDArray[np.float32]], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, d) → (N, d), not yet of unit norm."""
    return vectors + tensors["m"]
