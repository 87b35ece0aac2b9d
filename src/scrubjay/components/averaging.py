"""Weight averaging of the networks before and after a session."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

ROWS = 1024
"""Rows of the affinity matrix that are computed at a time."""


@torch.no_grad()
def average(network: nn.Module, teacher: nn.Module, share: float) -> None:
    """θ ← a·θ_new + (1 − a)·θ_old, in place; the head's rows of new classes are not changed.

    Args:
        network: θ_new; a head that has grown is averaged in the rows that the teacher's head has.
        teacher: θ_old, not changed.
        share: a, 0 … 1.
    """
    old = teacher.state_dict()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            shared = value[: len(old[name])] if value.ndim else value
            shared.lerp_(old[name].to(value), 1 - share)


@torch.no_grad()
def keep_share(embeddings: Iterable[tuple[Tensor, Tensor]], temperature: float = 0.01) -> float:
    """Share of the new weights in the average, from the change of the affinities of the new images.

    a = 1 − (1/N) Σ_i Σ_j |A_n,ij − A_o,ij|,   A = softmax of each row of z zᵀ / T,   at least 0

    Args:
        embeddings: batches of z_o and z_n, each (B, d), of the same images, N in total.
        temperature: T > 0.

    Returns:
        a in [0, 1]; 1 without images.

    Source: Xu et al., LSTKC: Long Short-Term Knowledge Consolidation for Lifelong Person Re-Identification, AAAI 2024;
    the sum over a row and T = 0.01 are those of the authors' published code.
    """
    pairs = list(embeddings)
    if not pairs:
        return 1.0
    z_o, z_n = (torch.cat(part).float() for part in zip(*pairs, strict=True))
    changed = 0.0
    for start in range(0, len(z_o), ROWS):
        A_o, A_n = ((z[start : start + ROWS] @ z.T / temperature).softmax(1) for z in (z_o, z_n))
        changed += float((A_n - A_o).abs().sum())
    return max(0.0, 1 - changed / max(len(z_o), 1))
