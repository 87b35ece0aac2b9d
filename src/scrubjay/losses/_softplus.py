"""Soft maximum of several numbers and zero."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def softplus(x: Tensor, mask: Tensor) -> Tensor:
    """log(1 + Σ_{j ∈ mask} exp x_j) along the last dimension, without overflow.

    Args:
        x: (…, n).
        mask: (…, n) bool, which of them are included.

    Returns:
        (…) ≥ 0; 0, with a gradient of 0, where none is included.
    """
    return pad(x.masked_fill(~mask, -torch.inf), (1, 0)).logsumexp(-1)  # the padded column is the 1 = exp(0)
