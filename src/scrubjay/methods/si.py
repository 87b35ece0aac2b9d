"""Parameters stay where they were, weighed by what they did for the loss on their way (Zenke et al., ICML 2017).

L = L_ce + L_triplet + c Σ_i Ω_i (θ_i − θ*_i)²

θ* are the embedder's parameters after the last session; Ω_i = Σ over sessions of max(0, ω_i)/(Δ_i² + ξ), with the path
integral ω_i = −Σ_t g_t,i (θ_{t+1,i} − θ_t,i) of the slope g of the first two terms, and the way Δ_i from the session's
start to its last step. The head takes no part: its old rows get no gradient from new classes. Published: c = 0.1,
ξ = 0.1. It needs an initial session of its own, for that path is watched too. Keeps P·4 bytes: Ω, for P trained
parameters of the embedder; while a session lasts three times as much again.
"""

from typing import Any

from pydantic import Field
from torch import Tensor

from scrubjay.components.importance import PerParameter, keep, names, penalty, trained
from scrubjay.components.path_integral import PathIntegral
from scrubjay.methods import Method, MethodOptions, Pass
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session


class SIOptions(MethodOptions):
    """Synaptic intelligence."""

    weight: float = Field(0.1, ge=0)
    """c."""
    damping: float = Field(0.1, gt=0)
    """ξ."""


class SI(Method):
    """Fine-tuning + c Σ Ω (θ − θ*)²."""

    own_start = True
    has_memory = True
    Options = SIOptions
    options: SIOptions

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.anchor = PerParameter(names(network.embedder))
        self.omega = PerParameter(names(network.embedder))
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
            losses["si"] = self.options.weight * penalty(trained(self.network.embedder), self.anchor, self.omega)
        return losses

    def advance(self) -> None:
        """Take the step that was made last into ω, without the penalty's own part of the gradient."""

        def pull(name: str, theta: Tensor) -> Tensor | float:
            if not self.has_past or name not in self.omega:
                return 0.0
            return 2 * self.options.weight * self.omega[name] * (theta - self.anchor[name])

        self.path.advance(trained(self.network.embedder), pull)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As in torch, with the last step taken in: its gradient is in no file."""
        self.advance()
        return super().state_dict(*args, **kwargs)

    def end(self, session: Session, images: Pass) -> None:
        """Add what this session's path tells to Ω."""
        self.advance()  # before weights are averaged, which is no step
        super().end(session, images)
        for name in trained(self.network.embedder):
            way = self.path.last[name] - self.anchor[name]
            omega = self.path.total[name].clamp_min(0) / (way.square() + self.options.damping)
            self.omega[name] = self.omega[name] + omega if name in self.omega else omega
        self.anchor.clear()
        self.path.clear()
