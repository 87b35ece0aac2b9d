"""Contrastive loss: pairs of one class are pulled together, pairs of two are pushed a margin apart (CVPR 2006)."""

from __future__ import annotations

import torch
from torch import Tensor

from scrubjay.losses._pairs import pairs
from scrubjay.losses._precision import full_precision


@full_precision
def contrastive(z: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """Squared distances of positive pairs, and squared hinge losses of negative pairs within a margin.

    L = (1/|P|) Σ_{(i,j)∈P} ½ d_ij² + (1/|N|) Σ_{(i,j)∈N} ½ max(0, m − d_ij)²,   d_ij = ‖z_i − z_j‖

    P: pairs of the same class, N: pairs of two classes; each set is averaged separately, so that their balance does not
    depend on how the batch was drawn, and an empty set adds 0.

    Args:
        z: (B, d) embeddings.
        labels: (B,) int64.
        margin: m > 0, in units of distance (unit embeddings are at most 2 apart).

    Returns:
        Scalar ≥ 0; 0 for B ≤ 1. The gradient is 0 for a negative pair of equal embeddings.

    Source: Hadsell, Chopra, LeCun: Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006.
    """
    positive, negative = pairs(labels)
    d = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
    pull = (d.square() * positive).sum() / positive.sum().clamp_min(1)
    push = ((margin - d).clamp_min(0).square() * negative).sum() / negative.sum().clamp_min(1)
    return (pull + push) / 2
