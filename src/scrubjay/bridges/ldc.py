"""The linear map by gradient descent from the identity on: z ↦ A z + b, b = 0 (LDC, Gomez-Villa et al., ECCV 2024).

Stopping after 20 epochs keeps it near the identity. A learned `projection` of a method, with an offset, is one too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

CHANGES_DIMENSION = False


def fit(source: NDArray[np.float32], target: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Tensors: `A` (d, d) and `b` (d,)."""
    import torch

    from scrubjay.parts.drift import linear_map

    A = linear_map(torch.from_numpy(np.array(source)), torch.from_numpy(np.array(target)))
    return {"A": A.numpy(), "b": np.zeros(len(A), dtype=np.float32)}


def apply(tensors: Mapping[str, NDArray[np.float32]], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, d) → (N, d), not yet of unit norm."""
    return vectors @ tensors["A"].T + tensors["b"]
