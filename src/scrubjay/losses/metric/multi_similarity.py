"""Multi-similarity loss: hard pairs are mined and weighted by their relative similarities (Wang et al., CVPR 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from scrubjay.losses._pairs import pairs
from scrubjay.losses._precision import full_precision
from scrubjay.losses._softplus import softplus


@full_precision
def multi_similarity(
    z: Tensor,
    labels: Tensor,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    epsilon: float | None = 0.1,
) -> Tensor:
    """Soft-weighted positive and negative pairs, after mining of those that are hard relative to the anchor's others.

    L = (1/B) Σ_i { (1/α) log[1 + Σ_{k∈P'_i} e^{−α(S_ik − λ)}] + (1/β) log[1 + Σ_{k∈N'_i} e^{β(S_ik − λ)}] }
    S_ij = z_i·z_j
    P'_i = {p ∈ P_i : S_ip < max_{n∈N_i} S_in + ε},   N'_i = {n ∈ N_i : S_in > min_{p∈P_i} S_ip − ε}

    An image without a positive or without a negative adds 0 (without mining: its one existing term).

    Args:
        z: (B, d) unit embeddings.
        labels: (B,) int64.
        alpha: α, sharpness of the positive term.
        beta: β, sharpness of the negative term.
        base: λ, in units of cosine; 0.5 separates similar from dissimilar pairs of unit embeddings.
        epsilon: ε of the mining; None uses every pair.

    Returns:
        Scalar ≥ 0; 0, with a gradient of 0, for B ≤ 1.

    Source: Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning, CVPR 2019.
    """
    if len(z) == 0:
        return z.sum()
    positive, negative = pairs(labels)
    S = z @ z.T
    if epsilon is not None:
        hardest_negative = S.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
        hardest_positive = S.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
        positive = positive & (hardest_negative + epsilon > S)
        negative = negative & (hardest_positive - epsilon < S)
    return (softplus(-alpha * (S - base), positive) / alpha + softplus(beta * (S - base), negative) / beta).mean()
