"""A small network beside a linear map: z → W z + W₂ relu(W₁ z + b₁) + b₂ (after FCT, Ramanujan et al., CVPR 2022).

FCT learns an MLP from old features and side information to new features; here the features alone are at hand, and the
start is ours: W is the identity, or `ridge` where the spaces differ in dimension, and stays; W₂ and b₂ begin at zero.
Adam lowers (1/N) Σ_i ‖normalise(·) − t_i‖² until a fifth of the images, which is kept aside, gains no more.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from scrubjay.bridges._fitter import Kind, Vectors
from scrubjay.bridges.ridge import Ridge

HIDDEN = 256
EPOCHS = 60
STEPS = 1000
"""However many images there are."""
PATIENCE = 5
BATCH = 64

Weights = dict[str, Tensor]
Pairs = tuple[Tensor, Tensor, Tensor]
"""Source (N, d), W times it (N, d'), target (N, d')."""


class MLP(Kind):
    """A perceptron with one hidden layer, beside a linear map."""

    rank = 5

    def fit(self, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[dict[str, Vectors]]:
        """`hidden.weight` (h, d), `hidden.bias`, `out.weight` (d', h), `out.bias`; all strengths are one."""
        resized = source.shape[1] != target.shape[1]
        base = Ridge().fit(source, target, (Ridge.default,))[0] if resized else {}
        start = source @ base["weight"].T if resized else source
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(source), generator=generator)
        s, w, t = (torch.from_numpy(each)[order] for each in (source, start, target))
        aside = len(s) // 5
        weights = _initial(source.shape[1], target.shape[1], generator)
        if aside:
            weights = _learned(weights, (s[aside:], w[aside:], t[aside:]), (s[:aside], w[:aside], t[:aside]), generator)
        return [{**base, **{name: value.numpy() for name, value in weights.items()}} for _ in strengths]


def _initial(source: int, target: int, generator: torch.Generator) -> Weights:
    """He's weights before the relu, zeros behind it."""
    hidden = torch.randn(HIDDEN, source, generator=generator) * (2 / source) ** 0.5
    rest = {"hidden.bias": (HIDDEN,), "out.weight": (target, HIDDEN), "out.bias": (target,)}
    return {"hidden.weight": hidden, **{name: torch.zeros(shape) for name, shape in rest.items()}}


def _learned(weights: Weights, used: Pairs, aside: Pairs, generator: torch.Generator) -> Weights:
    """The weights that were best for the images kept aside; the first ones, when nothing is better."""
    best, lowest, waited, steps = weights, _distance(weights, aside).item(), 0, 0
    weights = {name: value.clone().requires_grad_() for name, value in weights.items()}
    optimizer = torch.optim.Adam(weights.values(), lr=1e-3)
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(used[0]), generator=generator), BATCH):
            optimizer.zero_grad()
            with torch.enable_grad():
                distance = _distance(weights, (used[0][rows], used[1][rows], used[2][rows]))
                distance.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            steps += 1
        now, waited = _distance({name: value.detach() for name, value in weights.items()}, aside).item(), waited + 1
        if now < lowest:
            best, lowest, waited = {name: value.detach().clone() for name, value in weights.items()}, now, 0
        if waited == PATIENCE or steps >= STEPS:
            break
    return best


def _distance(weights: Weights, pairs: Pairs) -> Tensor:
    hidden = F.linear(pairs[0], weights["hidden.weight"], weights["hidden.bias"]).relu()
    carried = F.normalize(pairs[1] + F.linear(hidden, weights["out.weight"], weights["out.bias"]), dim=1)
    return (carried - pairs[2]).square().sum(1).mean()
