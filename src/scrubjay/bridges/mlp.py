"""A small network beside the identity: z → z + W₂ relu(W₁ z + b₁) + b₂ (after FCT, Ramanujan et al., CVPR 2022).

FCT learns an MLP from old features and side information to new features; here the features alone are at hand. It
starts as the identity, has 2d hidden units, and learns by AdamW on 1 − cosine until pictures kept aside gain no more.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scrubjay.bridges._kind import Kind, Vectors

EPOCHS = 60
PATIENCE = 5
BATCH = 64


class MLP(Kind):
    """A perceptron with one hidden layer."""

    rank = 5
    resizes = False

    def fit(self, source: Vectors, target: Vectors, strength: float) -> dict[str, Vectors]:
        """`hidden.weight` (2d, d), `hidden.bias` (2d,), `out.weight` (d, 2d), `out.bias` (d,)."""
        s, t = (torch.from_numpy(np.array(each)) for each in (source, target))
        d, generator = s.shape[1], torch.Generator().manual_seed(0)
        hidden = torch.randn(2 * d, d, generator=generator) / d**0.5
        weights = [hidden, torch.zeros(2 * d), torch.zeros(d, 2 * d), torch.zeros(d)]
        order = torch.randperm(len(s), generator=generator)
        aside, used = order[: len(s) // 5], order[len(s) // 5 :]
        kept = _learned(weights, (s[used], t[used]), (s[aside], t[aside]), generator)
        names = ("hidden.weight", "hidden.bias", "out.weight", "out.bias")
        return {name: value.numpy() for name, value in zip(names, kept, strict=True)}


def _learned(
    weights: list[Tensor], used: tuple[Tensor, Tensor], aside: tuple[Tensor, Tensor], generator: torch.Generator
) -> list[Tensor]:
    """The weights that were best for the pictures kept aside."""
    for each in weights:
        each.requires_grad_()
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=1e-4)
    best, waited = float("inf"), 0
    kept = [each.detach().clone() for each in weights]
    with torch.enable_grad():
        for _ in range(EPOCHS):
            error = float(_error(weights, *aside).detach()) if len(aside[0]) else best - 1
            if error < best - 1e-6:
                best, waited = error, 0
                kept = [each.detach().clone() for each in weights]
            else:
                waited += 1
            if waited >= PATIENCE:
                break
            for rows in torch.split(torch.randperm(len(used[0]), generator=generator), BATCH):
                optimizer.zero_grad()
                _error(weights, used[0][rows], used[1][rows]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return kept


def _error(weights: list[Tensor], z: Tensor, target: Tensor) -> Tensor:
    found = z + F.linear(F.linear(z, weights[0], weights[1]).relu(), weights[2], weights[3])
    return (1 - F.cosine_similarity(found, target, dim=1)).mean()
