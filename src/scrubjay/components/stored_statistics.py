"""Statistics as part of a method's state, for methods whose statistics change with every session."""

from __future__ import annotations

import torch
from torch import Tensor

from scrubjay.closed_form.statistics import Statistics
from scrubjay.components.resizable import Resizable

_SIZES = {"labels": (0,), "counts": (0,), "means": (0, 0), "factor": (0, 0), "triangle": (0,)}


class StoredStatistics(Resizable):
    """The tensors of `Statistics.to_tensors` as buffers, which are empty before the first session.

    Attributes:
        labels: int64 (C,).
        counts: int64 (C,).
        means: float64 (C, p).
        factor: float64 (p, r) with S = F Fᵀ, where this is smaller than the triangle; otherwise empty.
        triangle: float64 (p(p + 1)/2,), lower triangle of S; otherwise empty.
    """

    labels: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, size in _SIZES.items():
            dtype = torch.int64 if name in ("labels", "counts") else torch.float64
            self.register_buffer(name, torch.zeros(size, dtype=dtype))

    @property
    def empty(self) -> bool:
        """Whether nothing was stored yet."""
        return len(self.labels) == 0

    def put(self, statistics: Statistics) -> None:
        """Store statistics in the place of those before."""
        tensors = statistics.to_tensors()
        for name, size in _SIZES.items():
            own: Tensor = getattr(self, name)
            setattr(self, name, tensors.get(name, own.new_zeros(size)).to(own))

    def get(self, era: str) -> Statistics:
        """What was stored, on the CPU.

        Args:
            era: identity of the features.
        """
        tensors = {name: value.cpu() for name, value in self.named_buffers()}
        tensors.pop("factor" if len(self.get_buffer("triangle")) else "triangle")
        return Statistics.from_tensors(era, tensors)
