"""A small network beside the identity: z ↦ z + W₂ relu(W₁ z + b₁) + b₂ (after FCT, Ramanujan et al., CVPR 2022).

FCT learns an MLP from old features and side information to new ones; here the features alone are had. It starts as
the identity, has a hidden layer of 2d, and learns by Adam on 1 − cosine until pictures kept aside no longer gain.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

CHANGES_DIMENSION = False
EPOCHS = 60
PATIENCE = 5
BATCH = 64


def fit(source: NDArray[np.float32], target: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Tensors: `W1` (2d, d), `b1` (2d,), `W2` (d, 2d), `b2` (d,)."""
    import torch

    s, t = torch.from_numpy(np.array(source)), torch.from_numpy(np.array(target))
    d, generator = s.shape[1], torch.Generator().manual_seed(0)
    W1 = torch.randn(2 * d, d, generator=generator) / d**0.5
    weights = [W1, torch.zeros(2 * d), torch.zeros(d, 2 * d), torch.zeros(d)]
    for each in weights:
        each.requires_grad_()
    order = torch.randperm(len(s), generator=generator)
    aside, used = order[: len(s) // 5], order[len(s) // 5 :]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=1e-4)
    best, kept, waited = float("inf"), [each.detach().clone() for each in weights], 0
    with torch.enable_grad():
        for _ in range(EPOCHS):
            if len(aside):
                with torch.no_grad():
                    error = float(_error(weights, s[aside], t[aside]))
                if error < best - 1e-6:
                    best, kept, waited = error, [each.detach().clone() for each in weights], 0
                else:
                    waited += 1
                if waited >= PATIENCE:
                    break
            for rows in torch.split(used[torch.randperm(len(used), generator=generator)], BATCH):
                optimizer.zero_grad()
                _error(weights, s[rows], t[rows]).backward()
                optimizer.step()
    return {name: value.numpy() for name, value in zip(("W1", "b1", "W2", "b2"), kept, strict=True)}


def apply(tensors: Mapping[str, NDArray[np.float32]], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, d) → (N, d), not yet of unit norm."""
    hidden = np.maximum(vectors @ tensors["W1"].T + tensors["b1"], 0)
    return vectors + hidden @ tensors["W2"].T + tensors["b2"]


def _error(weights, z, target):  # type: ignore[no-untyped-def]  # torch is not imported where this file is
    import torch.nn.functional as F

    W1, b1, W2, b2 = weights
    found = z + F.linear(F.linear(z, W1, b1).relu(), W2, b2)
    return (1 - F.cosine_similarity(found, target, dim=1)).mean()
