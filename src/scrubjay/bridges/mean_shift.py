"""All vectors move by the mean difference: z → normalise(z + b), b = 1/(1 + λ) · (1/N) Σ_i (t_i − s_i).

b = argmin (1/N) Σ_i ‖s_i + b − t_i‖² + λ ‖b‖²
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scrubjay.bridges._fitter import Kind, Vectors


class MeanShift(Kind):
    """One offset for all."""

    rank = 2
    resizes = False
    strengths = (3.0, 1.0, 0.0)
    blind = 1.0

    def fit(self, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[dict[str, Vectors]]:
        """`bias` (d,)."""
        mean = (target.astype(np.float64) - source).mean(0)
        return [{"bias": (mean / (1 + strength)).astype(np.float32)} for strength in strengths]
