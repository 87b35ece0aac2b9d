"""Synaptic intelligence: a quadratic penalty weighted by a path integral of the loss (Zenke et al., ICML 2017).

L = L_ce + L_triplet + c Σ_i Ω_i (θ_i − θ*_i)²

θ* are the embedder's parameters after the last session; Ω_i = Σ over sessions of max(0, ω_i)/(Δ_i² + ξ), with the path
integral ω_i = −Σ_t g_t,i (θ_{t+1,i} − θ_t,i) of the gradient g of the first two terms, and Δ_i the change of θ_i over
the session. The head is not penalised: its old rows get no gradient from new classes. Published: c = 0.1, ξ = 0.1. It
needs an initial session of its own, whose path is integrated too. Keeps P·4 bytes: Ω, for P trained parameters of the
embedder; while a session lasts three times as much again.
"""

from pydantic import Field

from scrubjay.components.path_integral import PathImportance
from scrubjay.methods import Method, MethodOptions


class SIOptions(MethodOptions):
    """Options of synaptic intelligence."""

    weight: float = Field(0.1, ge=0)
    """c: factor on the weighted sum of squares."""
    damping: float = Field(0.1, gt=0)
    """ξ: added to the squared change, so that parameters that hardly moved get no huge importance."""


class SI(PathImportance, Method):
    """Fine-tuning + c Σ Ω (θ − θ*)²."""

    term = "si"
    Options = SIOptions
    options: SIOptions

    def finish(self, name: str) -> None:
        """Add max(0, ω)/(Δ² + ξ) to Ω."""
        change = self.path.last[name] - self.anchor[name]
        omega = self.path.total[name].clamp_min(0) / (change.square() + self.options.damping)
        self.importance[name] = self.importance[name] + omega if name in self.importance else omega
