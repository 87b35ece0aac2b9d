"""What has moved on average: z → normalise(z + b), b = (1/N) Σ_i (t_i − s_i)."""

from __future__ import annotations

import numpy as np

from scrubjay.bridges._kind import Kind, Vectors


class MeanShift(Kind):
    """An offset."""

    rank = 1
    resizes = False

    def fit(self, source: Vectors, target: Vectors, strength: float) -> dict[str, Vectors]:
        """`bias` (d,)."""
        shift = target.mean(axis=0, dtype=np.float64) - source.mean(axis=0, dtype=np.float64)
        return {"bias": shift.astype(np.float32)}
