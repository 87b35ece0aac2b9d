"""Parameters stay where they were, above all off the side that training never saw (Park et al., ALASSO, ICCV 2019).

L = L_ce + L_triplet + c Σ_i f_i(θ_i; a)

f_i(θ_i; a) = Ω_i (θ_i − θ*_i)²          on the side of θ°_i
              (a Ω_i + ε)(θ_i − θ*_i)²   on the other

θ* and θ° are the embedder's parameters after and before the last session. At the end of a session, at θ, Ω_i becomes
max(Ω_i, (ω_i − c′ f_i(θ_i; a′)) / ((θ_i − θ*_i)² + ξ)): so steep that f passes through both ends of the way, on which
the loss of all sessions fell by the path integral ω of the new classes' loss (as in `si`) less what f rose; in this
f, ε = 0. The head takes no part: its old rows get no gradient from new classes. The authors' code: c = c′ = 1,
a = 1.8, a′ = 1, ξ = 0.1, ε = 1e-6. It needs an initial session of its own, for that path is watched too. Keeps P·8
bytes: Ω and θ°, for P trained parameters of the embedder; while a session lasts P·12 more.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from scrubjay.components.importance import PerParameter, keep, names, trained
from scrubjay.components.path_integral import PathIntegral
from scrubjay.losses.quadratic import asymmetric, stiffness
from scrubjay.methods import Method, MethodOptions, Pass
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session


class ALASSOOptions(MethodOptions):
    """Asymmetric loss approximation with single-side overestimation."""

    weight: float = Field(1.0, ge=0)
    """c."""
    a: float = Field(1.8, ge=1)
    """Overestimation on the unseen side while training."""
    epsilon: float = Field(1e-6, ge=0)
    """ε: resistance on the unseen side where Ω is 0."""
    estimate_weight: float = Field(1.0, ge=0)
    """c′: weight of the former penalty in the new Ω."""
    estimate_a: float = Field(1.0, ge=1)
    """a′: overestimation in the new Ω."""
    damping: float = Field(0.1, gt=0)
    """ξ."""


class ALASSO(Method):
    """Fine-tuning + c Σ f, an asymmetric quadratic around θ*."""

    own_start = True
    has_memory = True
    Options = ALASSOOptions
    options: ALASSOOptions

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.anchor = PerParameter(names(network.embedder))
        self.omega = PerParameter(names(network.embedder))
        self.previous = PerParameter(names(network.embedder))
        self.path = PathIntegral(names(network.embedder))

    def begin(self, session: Session) -> None:
        """Take down θ* and start on the path."""
        super().begin(session)
        keep(self.anchor, trained(self.network.embedder))
        self.path.begin(trained(self.network.embedder))

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, triplet, and the penalty once there are old classes."""
        self.advance()
        losses = super().loss(batch)
        if self.has_past:
            losses["alasso"] = self.options.weight * self.penalty(losses["ce"].detach())
        return losses

    def penalty(self, like: Tensor) -> Tensor:
        """Σ f over all parameters that have an importance; 0 where none has, on the device of `like`."""
        o, total = self.options, torch.zeros_like(like)
        for name, parameter in trained(self.network.embedder).items():
            if name in self.omega:
                around = self.anchor[name], self.omega[name], self.previous[name]
                total = total + asymmetric(parameter, *around, a=o.a, epsilon=o.epsilon)
        return total

    def advance(self) -> None:
        """Take the step that was made last into ω, without the penalty's own part of the gradient."""
        o = self.options

        def pull(name: str, theta: Tensor) -> Tensor | float:
            if not self.has_past or name not in self.omega:
                return 0.0
            around = self.anchor[name], self.omega[name], self.previous[name]
            return 2 * o.weight * stiffness(theta, *around, a=o.a, epsilon=o.epsilon) * (theta - self.anchor[name])

        self.path.advance(trained(self.network.embedder), pull)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As in torch, with the last step taken in: its gradient is in no file."""
        self.advance()
        return super().state_dict(*args, **kwargs)

    def end(self, session: Session, images: Pass) -> None:
        """Ω and θ° of this session."""
        self.advance()  # before weights are averaged, which is no step
        super().end(session, images)
        for name in trained(self.network.embedder):
            self.omega[name] = self._steepness(name)
            self.previous[name] = self.anchor[name]
        self.anchor.clear()
        self.path.clear()

    def _steepness(self, name: str) -> Tensor:
        o, theta, anchor = self.options, self.path.last[name], self.anchor[name]
        square, fell, least = (theta - anchor).square(), self.path.total[name], torch.zeros_like(theta)
        if name in self.omega:
            least = self.omega[name]
            risen = stiffness(theta, anchor, least, self.previous[name], a=o.estimate_a, epsilon=0.0) * square
            fell = fell - o.estimate_weight * risen
        return torch.maximum(fell / (square + o.damping), least)
