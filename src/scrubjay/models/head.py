"""The classifier head, which grows every session."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GrowingHead(nn.Module):
    """Linear classifier over the embedding: l = s·(W z + b), one row of W for each class. Rows are only ever added.

    The keys of its `state_dict` never change; loading the state of a larger or smaller head resizes this one.
    """

    def __init__(self, dim: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(0, dim))
        self.bias = nn.Parameter(torch.empty(0))

    @property
    def classes(self) -> int:
        """Number of classes, which is the number of rows of W."""
        return len(self.weight)

    def grow(self, classes: int) -> None:
        """Add rows up to `classes`, uniform in ±1/√d with bias 0; existing rows keep their values."""
        missing, dim = classes - self.classes, self.weight.shape[1]
        if missing <= 0:
            return
        bound = 1 / math.sqrt(dim)
        rows = torch.empty(missing, dim).uniform_(-bound, bound).to(self.weight)
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), rows]))
        self.bias = nn.Parameter(torch.cat([self.bias.detach(), torch.zeros(missing).to(self.bias)]))

    def forward(self, z: Tensor) -> Tensor:
        """Embeddings (B, d) → logits (B, classes)."""
        return self.scale * F.linear(z, self.weight, self.bias)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("weight", "bias"):
            stored, own = state_dict.get(prefix + name), getattr(self, name)
            if stored is not None and stored.shape[1:] == own.shape[1:] and len(stored) != len(own):
                setattr(self, name, nn.Parameter(torch.empty_like(stored, device=own.device)))
        super()._load_from_state_dict(state_dict, prefix, *args)
