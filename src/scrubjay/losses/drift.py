"""Semantic drift compensation: estimated drift of stored vectors between two generations."""

from __future__ import annotations

import torch
from torch import Tensor

from scrubjay.losses._precision import full_precision


@torch.no_grad()
@full_precision
def drift(z_o: Tensor, z_n: Tensor, stored: Tensor, sigma: float = 0.3) -> Tensor:
    """Drift of stored vectors, as a weighted mean of the drift of new images nearby.

    Δ_c = Σ_i w_i (z_n,i − z_o,i) / Σ_i w_i,   w_i = exp(−‖z_o,i − μ_c‖² / 2σ²)

    The weights are computed as a softmax, which is the same and cannot underflow for a μ_c far from all images: it then
    gets the drift of the nearest image.

    Args:
        z_o: (B, d) embeddings of the session's images before the session.
        z_n: (B, d) embeddings of the same images after it.
        stored: (C, d) class means or other stored vectors of the space before the session, μ.
        sigma: σ > 0, in units of distance; 0.2 to 0.3 are published.

    Returns:
        (C, d) Δ, to be added to `stored`; 0 for B = 0. No gradient.

    Source: Yu et al., Semantic Drift Compensation for Class-Incremental Learning, CVPR 2020.
    """
    d2 = torch.cdist(stored, z_o, compute_mode="donot_use_mm_for_euclid_dist").square()
    return (-d2 / (2 * sigma**2)).softmax(1) @ (z_n - z_o)
