"""Pairwise feature distillation: distances between new and old embeddings of the same images."""

from __future__ import annotations

from torch import Tensor

from scrubjay.losses._precision import full_precision


@full_precision
def l2(z_o: Tensor, z_n: Tensor) -> Tensor:
    """Mean squared Euclidean distance between new and old embeddings.

    L = (1/B) Σ_i ‖z_n,i − z_o,i‖²

    For unit embeddings this is twice `cosine`.

    Args:
        z_o: (B, d) embeddings by the teacher.
        z_n: (B, d) embeddings of the same images by the network being trained.

    Returns:
        Scalar ≥ 0; 0 for B = 0.
    """
    return (z_n - z_o).square().sum() / max(len(z_n), 1)


@full_precision
def cosine(z_o: Tensor, z_n: Tensor) -> Tensor:
    """Mean cosine distance between new and old embeddings.

    L = (1/B) Σ_i (1 − z_n,i·z_o,i)

    Args:
        z_o: (B, d) unit embeddings by the teacher.
        z_n: (B, d) unit embeddings of the same images by the network being trained.

    Returns:
        Scalar in [0, 2]; 0 for B = 0.
    """
    return (1 - (z_n * z_o).sum(1)).sum() / max(len(z_n), 1)
