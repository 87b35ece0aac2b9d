"""Supervised contrastive loss: all images of a class are each other's positives (Khosla et al., NeurIPS 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from scrubjay.losses._pairs import pairs
from scrubjay.losses._precision import full_precision


@full_precision
def supcon(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Mean log-softmax of each image's positives among all other images of the batch.

    L = −(1/B) Σ_i (1/|P_i|) Σ_{p∈P_i} log [ exp(z_i·z_p / τ) / Σ_{a≠i} exp(z_i·z_a / τ) ]

    An image without a positive adds 0.

    Args:
        z: (B, d) unit embeddings.
        labels: (B,) int64.
        temperature: τ > 0.

    Returns:
        Scalar ≥ 0, in nats; 0, with a gradient of 0, for B ≤ 1.

    Source: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, equation 2 (the sum outside the logarithm).
    """
    if len(z) < 2:
        return z.sum() * 0
    positive, _ = pairs(labels)
    logits = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    log_p = logits - logits.masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
    return -((log_p * positive).sum(1) / positive.sum(1).clamp_min(1)).mean()
