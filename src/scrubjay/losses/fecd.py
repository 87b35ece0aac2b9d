"""Correlation distillation: matches the similarity matrices of a batch."""

from __future__ import annotations

from torch import Tensor

from scrubjay.losses._precision import full_precision
from scrubjay.losses.kl import kl


@full_precision
def fecd(z_o: Tensor, z_n: Tensor, temperature: float = 4.0) -> Tensor:
    """KL divergence between the row-wise softmaxes of the old and new similarity matrix.

    L = (T²/B) Σ_i KL(softmax(S_i / T) ‖ softmax(S'_i / T)),   S = z_o z_oᵀ,   S' = z_n z_nᵀ

    The diagonal is included. The loss is invariant to a rotation of all embeddings.

    Args:
        z_o: (B, d) unit embeddings by the teacher.
        z_n: (B, d) unit embeddings of the same images by the network being trained.
        temperature: T > 0.

    Returns:
        Scalar ≥ 0; 0 for z_n = z_o and for B ≤ 1.

    Source: Chen et al., Feature Estimations Based Correlation Distillation for Incremental Image Retrieval, IEEE
    Transactions on Multimedia 2022 (there with weight 10).
    """
    return kl(z_o @ z_o.T, z_n @ z_n.T, temperature, rescale=True)
