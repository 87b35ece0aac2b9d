"""Elastic feature consolidation: feature distillation in the metric of the classifier's Fisher information."""

from __future__ import annotations

import torch
from torch import Tensor

from scrubjay.losses._precision import full_precision


@torch.no_grad()
@full_precision
def feature_matrix(logits: Tensor, weight: Tensor) -> Tensor:
    """Empirical feature matrix: how much the classifier's outputs change along each direction of the embedding.

    E = (1/B) Σ_i Jᵀ (diag(p_i) − p_i p_iᵀ) J,   p_i = softmax(l_i),   J = ∂l/∂z

    It is the Fisher information of the outputs with respect to the embedding: KL(p(z) ‖ p(z + δ)) ≈ ½ δᵀ E δ.

    Args:
        logits: (B, C) l of all classes so far.
        weight: (C, d) J; for a head l = s·(W z + b) that is s·W.

    Returns:
        (d, d) symmetric, positive semidefinite; 0 for B = 0 and for one class. No gradient.

    Source: Magistri et al., Elastic Feature Consolidation for Cold Start Exemplar-Free Incremental Learning, ICLR 2024.
    """
    p = logits.softmax(1)
    middle = torch.diag(p.sum(0)) - p.T @ p
    E: Tensor = weight.T @ middle @ weight / max(len(p), 1)
    return E


@full_precision
def elastic(z_o: Tensor, z_n: Tensor, E: Tensor, epsilon: float = 0.01) -> Tensor:
    """Mean squared distance of new and old embeddings in the metric of a feature matrix.

    L = (1/B) Σ_i (z_n,i − z_o,i)ᵀ (E + εI) (z_n,i − z_o,i)

    Args:
        z_o: (B, d) embeddings by the teacher.
        z_n: (B, d) embeddings of the same images by the network being trained.
        E: (d, d) positive semidefinite.
        epsilon: ε ≥ 0, weight of the plain squared distance.

    Returns:
        Scalar ≥ 0; 0 for z_n = z_o and for B = 0.

    Source: Magistri et al., ICLR 2024, there λE + ηI with λ = 10 and η = 0.1: a weight of 10 and ε = 0.01.
    """
    step = z_n - z_o
    return ((step @ E) * step + epsilon * step.square()).sum() / max(len(step), 1)
