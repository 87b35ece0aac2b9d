"""Affinity distillation, with the teacher's affinities corrected by the labels."""

from __future__ import annotations

import torch
from torch import Tensor

from scrubjay.losses._pairs import pairs
from scrubjay.losses._precision import full_precision


@full_precision
def affinity(z_o: Tensor, z_n: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """KL divergence of the affinities of a batch from those of the teacher, corrected by the labels.

    A = softmax of each row of z zᵀ / T;   A_o of the teacher, A_n of the network being trained
    L = (1/B) Σ_i KL(Â_i ‖ A_n,i),   Â = Ã, each row divided by its sum, a constant for the gradient

    A positive pair is right in A when A_ij > h_i = max_{n∈N_i} A_in; a negative pair is right when
    A_ij ≤ e_i = min_{p∈P_i} A_ip; a pair of an image with itself is always right.

    Ã_ij = A_o,ij              where it is right in A_o
           A_n,ij              else, where it is right in A_n
           max(h_o,i, h_n,i)   where it is positive and wrong in both
           min(e_o,i, e_n,i)   where it is negative and wrong in both

    Args:
        z_o: (B, d) unit embeddings by the teacher.
        z_n: (B, d) unit embeddings of the same images by the network being trained.
        labels: (B,) int64.
        temperature: T > 0.

    Returns:
        Scalar ≥ 0; 0 where the affinities equal the corrected ones, and for B ≤ 1.

    Source: Xu et al., LSTKC: Long Short-Term Knowledge Consolidation for Lifelong Person Re-Identification, AAAI 2024.
    """
    if len(z_n) == 0:
        return z_n.sum()
    log_n = (z_n @ z_n.T / temperature).log_softmax(1)
    with torch.no_grad():
        target = _corrected((z_o @ z_o.T / temperature).softmax(1), log_n.exp(), labels)
    return (torch.xlogy(target, target) - target * log_n).sum() / len(z_n)


def _corrected(A_o: Tensor, A_n: Tensor, labels: Tensor) -> Tensor:
    positive, negative = pairs(labels)
    h_o, e_o, right_o = _extremes(A_o, positive, negative)
    h_n, e_n, right_n = _extremes(A_n, positive, negative)
    corrected = torch.where(positive, torch.maximum(h_o, h_n), torch.minimum(e_o, e_n))
    target = torch.where(right_o, A_o, torch.where(right_n, A_n, corrected))
    return target / target.sum(1, keepdim=True)


def _extremes(A: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The hardest negative h and hardest positive e of each row, both (B, 1), and which pairs are right, (B, B)."""
    h = A.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
    e = A.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
    return h, e, torch.where(positive, h < A, ~negative | (e >= A))
