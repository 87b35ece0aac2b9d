"""Vertices of a regular simplex, for a fixed classifier."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def simplex(d: int) -> Tensor:
    """Directions of the d + 1 vertices of a regular simplex: all pairwise angles are equal and as large as possible.

    v_i = e_i (i = 1 … d),   v_{d+1} = (1 − √(d+1))/d · 1;   centred, then of unit norm;   v_i·v_j = −1/d for i ≠ j

    As the fixed rows of a classifier they preallocate an output for each of d + 1 classes before it is learned, so that
    embeddings of different generations stay comparable.

    Args:
        d: dimension of the embedding, at least 1.

    Returns:
        (d + 1, d) float32, rows of unit norm.

    Source: Pernici et al., Regular Polytope Networks, IEEE TNNLS 2021; as CoReS (Biondi et al., TPAMI 2023) and HOC
    (Biondi et al., Stationary Representations, CVPR 2024) use it.
    """
    v = torch.cat(
        [torch.eye(d, dtype=torch.float64), torch.full((1, d), (1 - (d + 1) ** 0.5) / d, dtype=torch.float64)]
    )
    v = v - v.mean(0)
    return normalize(v, dim=1).float()
