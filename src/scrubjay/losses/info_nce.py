"""InfoNCE between new and old embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from scrubjay.losses._pairs import pairs
from scrubjay.losses._precision import full_precision


@full_precision
def info_nce(z_o: Tensor, z_n: Tensor, labels: Tensor, scale: float = 10.0) -> Tensor:
    """Contrastive loss: each new embedding must be most similar to the old embedding of the same image.

    L = −(1/B) Σ_i log [ exp(s z_n,i·z_o,i) / Σ_{j ∈ {i} ∪ N_i} exp(s z_n,i·z_o,j) ],   N_i = {j : y_j ≠ y_i}

    Other images of the same class are not used as negatives.

    Args:
        z_o: (B, d) unit embeddings by the teacher.
        z_n: (B, d) unit embeddings of the same images by the network being trained.
        labels: (B,) int64.
        scale: s > 0, the inverse of a temperature.

    Returns:
        Scalar ≥ 0, in nats; 0, with a gradient of 0, for a single class and for B = 0.

    Source: van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018; in HOC (Biondi et
    al., Stationary Representations, CVPR 2024) beside the cross entropy of the fixed `simplex`, weights 0.9 and 0.1.
    """
    same_class, _ = pairs(labels)
    logits = (scale * z_n @ z_o.T).masked_fill(same_class, -torch.inf)
    return -logits.log_softmax(1).diagonal().sum() / max(len(z_n), 1)
