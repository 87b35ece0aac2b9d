"""Masks of the positive and negative pairs of a batch."""

from __future__ import annotations

import torch
from torch import Tensor


def pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Positive and negative partners of every image of a batch.

    P_i = {j ≠ i : y_j = y_i},   N_i = {j : y_j ≠ y_i}

    Args:
        labels: (B,) int64.

    Returns:
        Two (B, B) bool masks, P and N; row i holds the partners of image i.
    """
    same = labels[:, None] == labels
    return same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device), ~same
