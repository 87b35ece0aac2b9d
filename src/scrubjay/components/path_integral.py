"""Importance by path integral: how much each parameter's steps reduced the loss in a session; base of SI and ALASSO."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from scrubjay.components.importance import ImportancePenalty, Parameters, PerParameter, keep, names, trained
from scrubjay.components.verbs import Pass
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session

PenaltyGradient = Callable[[str, Tensor], Tensor | float]
"""Gradient of a method's own penalty by the parameter of a name, at given values of that parameter."""


class PathIntegral(nn.Module):
    """ω = −Σ_t g_t·(θ_{t+1} − θ_t) for every parameter, g_t the gradient of the task's loss at step t.

    `advance` adds the last step, with the gradient that the optimizer used: it is available until the next backward
    pass. Called again without a step in between, it adds nothing, so that it may run before each loss and before each
    checkpoint, and an interrupted session resumes to the bit. (A hook in the backward pass would see gradients before
    the unscaling of half precision and the averaging of data parallelism.)

    It keeps two tensors per parameter while a session lasts, nothing between sessions.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        listed = list(names)
        self.total = PerParameter(listed)
        self.last = PerParameter(listed)

    def begin(self, parameters: Parameters) -> None:
        """Start at the current values of the parameters; steps of an earlier session are dropped."""
        self.clear()
        keep(self.last, parameters)
        for name in parameters:
            self.total[name] = torch.zeros_like(self.last[name])

    @torch.no_grad()
    def advance(self, parameters: Parameters, penalty_gradient: PenaltyGradient | None = None) -> None:
        """Add the last step; `penalty_gradient` is subtracted, so that ω integrates the loss of the task alone."""
        for name, parameter in parameters.items():
            if name not in self.last:
                continue
            before = self.last[name]
            moved = parameter - before
            if parameter.grad is not None:
                gradient = parameter.grad
                if penalty_gradient is not None:
                    gradient = gradient - penalty_gradient(name, before)
                # a step that half precision skipped has an infinite gradient and moved nothing
                self.total[name].sub_(torch.where(moved != 0, gradient * moved, 0))
            before.copy_(parameter)

    def clear(self) -> None:
        """Drop everything."""
        self.total.clear()
        self.last.clear()


class PathImportance(ImportancePenalty):
    """Ω from the path integral of the task's loss over each session, the first one included.

    Attributes:
        path: the integral since the start of the session.
    """

    own_start = True

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.path = PathIntegral(names(network.embedder))

    def begin(self, session: Session) -> None:
        """Store θ* and start the path integral."""
        super().begin(session)
        self.path.begin(trained(self.network.embedder))

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy and metric loss; from the second session on also the penalty."""
        self.advance()
        return super().loss(batch)

    def advance(self) -> None:
        """Add the last step to the path integral, without the penalty's own part of the gradient."""

        def gradient(name: str, theta: Tensor) -> Tensor | float:
            if not self.has_past or name not in self.importance:
                return 0.0
            return 2 * self.factor * self.stiffness(name, theta) * (theta - self.anchor[name])

        self.path.advance(trained(self.network.embedder), gradient)

    def stiffness(self, name: str, theta: Tensor) -> Tensor:
        """Factor s of the penalty Σ_i s_i (θ_i − θ*_i)² for the parameter of this name, at θ: here Ω, whatever θ is."""
        return self.importance[name]

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As in torch, with the last step added to the path integral first: its gradient is not saved."""
        self.advance()
        return super().state_dict(*args, **kwargs)

    def end(self, session: Session, images: Pass) -> None:
        """Compute Ω from this session's path."""
        self.advance()  # before weight averaging, which is not a step of the path
        super().end(session, images)
        for name in trained(self.network.embedder):
            self.finish(name)
        self.anchor.clear()
        self.path.clear()

    def finish(self, name: str) -> None:
        """Update Ω of the parameter of this name at the end of a session."""
        raise NotImplementedError
