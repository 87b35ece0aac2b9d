"""The linear map by gradient descent from the identity on: z → W z (LDC, Gomez-Villa et al., ECCV 2024).

No offset, Adam at 1e-3; 20 epochs as published keep it near the identity.
"""

from __future__ import annotations

import numpy as np

from scrubjay.bridges._kind import Kind, Vectors, cut, squared


class LDC(Kind):
    """A matrix by a few steps."""

    rank = 4

    def fit(self, source: Vectors, target: Vectors, strength: float) -> dict[str, Vectors]:
        """`weight` (d', d)."""
        import torch

        from scrubjay.parts.drift import linear_map

        s, t = (torch.from_numpy(np.array(each)) for each in squared(source, target))
        return {"weight": cut(linear_map(s, t).numpy(), source, target)}
