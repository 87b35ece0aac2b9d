"""Random vectors, and methods that keep features in their second session."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

import tiny
from scrubjay.methods import Method
from scrubjay.training import learn
from scrubjay.types import Batch


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit(*shape: int, seed: int = 0) -> Tensor:
    return normalize(draw(*shape, seed=seed), dim=-1)


def past(name: str, tmp_path: Path, **options: object) -> tuple[Method, Batch, tuple[Tensor, ...]]:
    """A method in its second session with a network that has moved, a batch, z_o, l_o, z_n and l_n."""
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner(name, **options)
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    learner.begin(second)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in learner.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    learner.eval()
    batch = tiny.batch(second.train)
    with torch.no_grad():
        return learner, batch, (*learner.teacher(batch.images), *learner.network(batch.images))
