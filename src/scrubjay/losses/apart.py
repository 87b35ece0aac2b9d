"""Triplet loss of new images with stored embeddings of old classes as negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from scrubjay.losses._precision import full_precision


@full_precision
def apart(z: Tensor, labels: Tensor, stored: Tensor, margin: float = 0.2) -> Tensor:
    """Hard triplet loss with the batch's positives and stored negatives.

    L = (1/B) Σ_i max(0, λ + max_m z_i·v_m − min_{j : y_j = y_i} z_i·z_j)

    The image itself is among its positives, so that an image without another of its class has a loss too.

    Args:
        z: (B, d) unit embeddings of images of new classes.
        labels: (B,) int64.
        stored: (M, d) v, unit embeddings of old classes, constants.
        margin: λ, in units of cosine.

    Returns:
        Scalar ≥ 0; 0, with a gradient of 0, for B = 0 and for M = 0.

    Source: the hard triplet loss (Hermans et al., In Defense of the Triplet Loss, 2017) with stored embeddings
    as negatives, as in feature replay.
    """
    if len(z) == 0 or len(stored) == 0:
        return z.sum() * 0
    positive = (z @ z.T).masked_fill(labels[:, None] != labels, torch.inf).amin(1)
    return (margin + (z @ stored.T).amax(1) - positive).clamp_min(0).mean()
