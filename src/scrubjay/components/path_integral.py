"""How much of the loss each parameter has taken away on its way through a session: a path integral."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from scrubjay.components.importance import Parameters, PerParameter, keep

Pull = Callable[[str, Tensor], Tensor | float]
"""Slope of a method's own penalty for the parameter of a name, at given values of it."""


class PathIntegral(nn.Module):
    """ω = −Σ_t g_t·(θ_{t+1} − θ_t), g_t the slope of the task's loss at step t, for every parameter.

    `advance` takes in the step that was made last, with the gradient that the optimizer used: it is still there until
    the next backward pass. Called again without a step between, it adds nothing, so that it may run before each loss
    and before each checkpoint, and a session that was cut goes on to the bit. (A hook in the backward pass would see
    gradients as the scaling of half precision and data parallelism have them half way.)

    It takes two tensors beside every parameter while a session lasts, nothing between sessions.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        listed = list(names)
        self.total = PerParameter(listed)
        self.last = PerParameter(listed)

    def begin(self, parameters: Parameters) -> None:
        """Start from where the parameters are; steps of an earlier session are forgotten."""
        self.clear()
        keep(self.last, parameters)
        for name in parameters:
            self.total[name] = torch.zeros_like(self.last[name])

    @torch.no_grad()
    def advance(self, parameters: Parameters, pull: Pull | None = None) -> None:
        """Take in the last step; `pull` is taken off the gradients, so that ω integrates the loss of the task alone."""
        for name, parameter in parameters.items():
            if name not in self.last:
                continue
            before = self.last[name]
            moved = parameter - before
            if parameter.grad is not None:
                slope = parameter.grad if pull is None else parameter.grad - pull(name, before)
                # a step that half precision skipped has an infinite gradient and moved nothing
                self.total[name].sub_(torch.where(moved != 0, slope * moved, 0))
            before.copy_(parameter)

    def clear(self) -> None:
        """Forget all of it."""
        self.total.clear()
        self.last.clear()
