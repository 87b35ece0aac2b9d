"""The linear map by gradient descent from the identity on: z → A z (LDC, Gomez-Villa et al., ECCV 2024).

A = argmin (1/N) Σ_i ‖A s_i − t_i‖² by 20 epochs of Adam; to stop there keeps it near the identity.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scrubjay.bridges._fitter import Kind, Vectors, cut, squared
from scrubjay.components.drift import linear_map


class LearnableDriftCompensation(Kind):
    """A matrix by Adam."""

    rank = 4

    def fit(self, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[dict[str, Vectors]]:
        """`weight` (d', d); all strengths are one."""
        wide, other = (torch.from_numpy(each) for each in squared(source, target))
        weight = cut(linear_map(wide, other).numpy(), source, target)
        return [{"weight": weight} for _ in strengths]
