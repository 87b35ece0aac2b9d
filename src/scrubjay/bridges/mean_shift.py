"""Mean shift: z → normalise(z + b), all vectors are moved by the (shrunken) mean difference of the two spaces.

b = 1/(1 + λ) · (1/N) Σ_i (t_i − s_i) = argmin (1/N) Σ_i ‖s_i + b − t_i‖² + λ ‖b‖²
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scrubjay.bridges._fitter import BridgeFitter, Vectors


class MeanShift(BridgeFitter):
    """One offset for all vectors."""

    rank = 2
    resizes = False
    strengths = (3.0, 1.0, 0.0)
    min_strength_without_gallery = 1.0

    def fit(self, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[dict[str, Vectors]]:
        """`bias` (d,) for each strength λ."""
        mean = (target.astype(np.float64) - source).mean(0)
        return [{"bias": (mean / (1 + strength)).astype(np.float32)} for strength in strengths]
