"""MLP added to a linear map: z → W z + W₂ relu(W₁ z + b₁) + b₂ (after FCT, Ramanujan et al., CVPR 2022).

FCT learns an MLP from old features and side information to new features. Here only the features are available, and the
initialisation is ours: W is fixed, the identity or, where the spaces differ in dimension, the `ridge` map; W₂ and b₂
start at zero. Adam minimises (1/N) Σ_i ‖normalise(·) − t_i‖² with early stopping on a held-out fifth of the images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from scrubjay.bridges._fitter import BridgeFitter, Vectors
from scrubjay.bridges.ridge import Ridge

HIDDEN = 256
EPOCHS = 60
STEPS = 1000
"""Largest number of optimizer steps, however many images there are."""
PATIENCE = 5
"""Epochs without an improvement on the held-out images after which the fit stops."""
BATCH = 64

Weights = dict[str, Tensor]
Pairs = tuple[Tensor, Tensor, Tensor]
"""Source vectors (N, d), the same after W (N, d'), and target vectors (N, d')."""


class MLP(BridgeFitter):
    """A perceptron with one hidden layer, added to a fixed linear map."""

    rank = 5

    def fit(self, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[dict[str, Vectors]]:
        """`hidden.weight` (h, d), `hidden.bias`, `out.weight` (d', h), `out.bias`, the same for every strength.

        Where the spaces differ in dimension, also `weight` (d', d).
        """
        resized = source.shape[1] != target.shape[1]
        base = Ridge().fit(source, target, (Ridge.default,))[0] if resized else {}
        linear = source @ base["weight"].T if resized else source
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(source), generator=generator)
        s, w, t = (torch.from_numpy(array)[order] for array in (source, linear, target))
        held_out = len(s) // 5
        weights = _initial(source.shape[1], target.shape[1], generator)
        if held_out:
            fitted = s[held_out:], w[held_out:], t[held_out:]
            weights = _trained(weights, fitted, (s[:held_out], w[:held_out], t[:held_out]), generator)
        return [{**base, **{name: value.numpy() for name, value in weights.items()}} for _ in strengths]


def _initial(source: int, target: int, generator: torch.Generator) -> Weights:
    """He initialisation before the ReLU, zeros after it."""
    hidden = torch.randn(HIDDEN, source, generator=generator) * (2 / source) ** 0.5
    rest = {"hidden.bias": (HIDDEN,), "out.weight": (target, HIDDEN), "out.bias": (target,)}
    return {"hidden.weight": hidden, **{name: torch.zeros(shape) for name, shape in rest.items()}}


def _trained(weights: Weights, fitted: Pairs, held_out: Pairs, generator: torch.Generator) -> Weights:
    """The weights with the smallest distance on the held-out images; the initial ones if none is smaller."""
    best, smallest, epochs_since, steps = weights, _distance(weights, held_out).item(), 0, 0
    weights = {name: value.clone().requires_grad_() for name, value in weights.items()}
    optimizer = torch.optim.Adam(weights.values(), lr=1e-3)
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(fitted[0]), generator=generator), BATCH):
            optimizer.zero_grad()
            with torch.enable_grad():
                distance = _distance(weights, (fitted[0][rows], fitted[1][rows], fitted[2][rows]))
                distance.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            steps += 1
        current = _distance({name: value.detach() for name, value in weights.items()}, held_out).item()
        epochs_since += 1
        if current < smallest:
            best = {name: value.detach().clone() for name, value in weights.items()}
            smallest, epochs_since = current, 0
        if epochs_since == PATIENCE or steps >= STEPS:
            break
    return best


def _distance(weights: Weights, pairs: Pairs) -> Tensor:
    """Mean squared distance of the mapped source vectors to the target vectors."""
    hidden = F.linear(pairs[0], weights["hidden.weight"], weights["hidden.bias"]).relu()
    mapped = F.normalize(pairs[1] + F.linear(hidden, weights["out.weight"], weights["out.bias"]), dim=1)
    return (mapped - pairs[2]).square().sum(1).mean()
