"""Gradient reversal layer."""

from __future__ import annotations

import math

from torch import Tensor


def gradient_reversal(x: Tensor, coefficient: float = 1.0) -> Tensor:
    """Identity whose gradient is multiplied by −c: layers before it maximise the loss that layers after it minimise.

    GRL(x) = x,   ∂GRL/∂x = −c·I

    Args:
        x: any shape.
        coefficient: c ≥ 0.

    Returns:
        `x`, to the bit.

    Source: Ganin and Lempitsky, Unsupervised Domain Adaptation by Backpropagation, ICML 2015.
    """
    return x.detach() - coefficient * (x - x.detach())


def reversal_coefficient(progress: float) -> float:
    """Schedule of the coefficient: it grows from 0 towards 1, so that the discriminator learns first.

    c(p) = 2 / (1 + e^{−10p}) − 1

    Args:
        progress: p, the share of the training that is done, in [0, 1].

    Source: Ganin and Lempitsky, ICML 2015; AdvBCT (Pan et al., CVPR 2023).
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1
