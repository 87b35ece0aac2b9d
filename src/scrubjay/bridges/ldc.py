"""Learnable drift compensation: z → A z, a linear map by gradient descent (LDC, Gomez-Villa et al., ECCV 2024).

A = argmin (1/N) Σ_i ‖A s_i − t_i‖² by 20 epochs of Adam from the identity; early stopping keeps it near the identity.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scrubjay.bridges._fitter import BridgeFitter, Vectors, cut, padded
from scrubjay.components.drift import linear_map


class LearnableDriftCompensation(BridgeFitter):
    """A linear map fitted by Adam."""

    rank = 4

    def fit(self, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[dict[str, Vectors]]:
        """`weight` (d', d), the same for every strength."""
        s, t = (torch.from_numpy(array) for array in padded(source, target))
        weight = cut(linear_map(s, t).numpy(), source, target)
        return [{"weight": weight} for _ in strengths]
