"""Distances between old and new feature maps of a stage."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from scrubjay.losses._precision import full_precision
from scrubjay.losses.l2 import l2


@full_precision
def pod(map_o: Tensor, map_n: Tensor) -> Tensor:
    """Pooled outputs distillation (POD) of one stage, spatial form.

    L = (1/B) Σ_i ‖h(A_n,i) − h(A_o,i)‖,   h(A) = v(A) / ‖v(A)‖,   v(A) = [Σ_w A²_chw , Σ_h A²_chw]

    The published objective averages it over the stages (weight 3–5), adds 1 − cos(z_n, z_o) (weight 1) and multiplies
    by √(classes seen / classes new).

    Args:
        map_o: (B, C, H, W) by the teacher.
        map_n: (B, C, H, W) of the same images by the network being trained.

    Returns:
        Scalar in [0, √2]; 0 for B = 0. The gradient is 0 for an image with equal h of both maps.

    Source: Douillard et al., PODNet: Pooled Outputs Distillation for Small-Tasks Incremental Learning, ECCV 2020.
    """
    distances: Tensor = torch.linalg.vector_norm(_pooled(map_n) - _pooled(map_o), dim=1)
    return distances.sum() / max(len(map_n), 1)


@full_precision
def squares(map_o: Tensor, map_n: Tensor) -> Tensor:
    """Mean squared distance of one stage's maps, without pooling or normalisation.

    L = (1/B) Σ_i ‖A_n,i − A_o,i‖²

    Args:
        map_o: (B, …) by the teacher.
        map_n: (B, …) of the same images by the network being trained.

    Returns:
        Scalar ≥ 0; 0 for B = 0.
    """
    return l2(map_o.flatten(1), map_n.flatten(1))


def _pooled(A: Tensor) -> Tensor:
    energy = A.square()
    return normalize(torch.cat([energy.sum(3).flatten(1), energy.sum(2).flatten(1)], 1), dim=1)
