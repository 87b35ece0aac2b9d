"""Triplet loss on cosine similarities, with the hardest or with semi-hard triplets of the batch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from scrubjay.errors import ConfigError
from scrubjay.losses._pairs import pairs
from scrubjay.losses._precision import full_precision

Mining = Literal["hard", "semi-hard"]

FROM_METHOD = ("margin", "mining")
"""Options of every method that set this loss's parameters of the same names, unless `method.metric_options` does."""


@full_precision
def triplet(z: Tensor, labels: Tensor, margin: float = 0.2, mining: Mining = "hard") -> Tensor:
    """Hinge on cosine similarities: positives must be more similar than negatives by a margin λ.

    S_ij = z_i·z_j,   P_i = {j ≠ i : y_j = y_i},   N_i = {j : y_j ≠ y_i}

    hard:       L = (1/B) Σ_i max(0, λ + max_{n∈N_i} S_in − min_{p∈P_i} S_ip)
    semi-hard:  L = (1/B) Σ_i (1/|P_i|) Σ_{p∈P_i} max(0, λ + S_i,n(p) − S_ip),
                n(p) = the most similar n ∈ N_i with S_in < S_ip

    The divisor is always the number of images B: an image without a positive, a batch of one class, and a positive
    without a less similar negative add 0 to the sum. Where several images are equally hard, they share the gradient.

    Args:
        z: (B, d) unit embeddings.
        labels: (B,) int64.
        margin: λ, in units of cosine.
        mining: which triplets of the batch are used.

    Returns:
        Scalar ≥ 0; 0, with a gradient of 0, where no triplet violates the margin and for B = 0.

    Raises:
        ConfigError: `mining` is unknown.

    Source: hard: Chen et al., BMVC 2020 (Hermans et al., In Defense of the Triplet Loss, 2017); semi-hard: Schroff et
    al., FaceNet, CVPR 2015.
    """
    if mining not in ("hard", "semi-hard"):
        raise ConfigError(f"mining {mining!r} is unknown: choose 'hard' or 'semi-hard'")
    if len(z) == 0:
        return z.sum()
    positive, negative = pairs(labels)
    S = z @ z.T
    # an infinity where no partner exists makes max(0, …) 0, with a gradient of 0
    negatives = S.masked_fill(~negative, -torch.inf)
    if mining == "hard":
        return _hinge(margin, negatives.amax(1), S.masked_fill(~positive, torch.inf).amin(1)).mean()
    ranked = negatives.sort(1).values
    # never −1: the anchor itself comes first, with −∞
    less_similar = torch.searchsorted(ranked.detach(), S.detach()) - 1
    per_pair = _hinge(margin, ranked.gather(1, less_similar), S) * positive
    return (per_pair.sum(1) / positive.sum(1).clamp_min(1)).mean()


def _hinge(margin: float, negative: Tensor, positive: Tensor) -> Tensor:
    return (margin + negative - positive).clamp_min(0)
