"""Asymmetric loss approximation: a path-integral penalty, steeper on the side of θ* that training did not visit.

L = L_ce + L_triplet + c Σ_i f_i(θ_i; a)

f_i(θ_i; a) = Ω_i (θ_i − θ*_i)²          on the side of θ°_i
              (a Ω_i + ε)(θ_i − θ*_i)²   on the other

Park et al., ALASSO, ICCV 2019. θ* and θ° are the embedder's parameters after and before the last session. At the end
of a session, at θ, Ω_i becomes max(Ω_i, (ω_i − c′ f_i(θ_i; a′)) / ((θ_i − θ*_i)² + ξ)): so steep that f passes through
both ends of the path, along which the loss of all sessions fell by the path integral ω of the new classes' loss (as in
`si`) minus the rise of f; in this f, ε = 0. The head is not penalised: its old rows get no gradient from new classes.
The authors' code: c = c′ = 1, a = 1.8, a′ = 1, ξ = 0.1, ε = 1e-6. It needs an initial session of its own, whose path is
integrated too. Keeps P·8 bytes: Ω and θ°, for P trained parameters of the embedder; while a session lasts P·12 more.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from scrubjay.components.importance import PerParameter, names, trained, zero
from scrubjay.components.path_integral import PathImportance
from scrubjay.losses.quadratic import asymmetric, stiffness
from scrubjay.methods import Method, MethodOptions
from scrubjay.models.embedder import Network


class ALASSOOptions(MethodOptions):
    """Options of the asymmetric loss approximation with single-side overestimation."""

    weight: float = Field(1.0, ge=0)
    """c: factor on the penalty."""
    a: float = Field(1.8, ge=1)
    """Overestimation on the unvisited side while training."""
    epsilon: float = Field(1e-6, ge=0)
    """ε: stiffness on the unvisited side where Ω is 0."""
    estimate_weight: float = Field(1.0, ge=0)
    """c′: weight of the previous penalty when the new Ω is computed."""
    estimate_a: float = Field(1.0, ge=1)
    """a′: overestimation on the unvisited side when the new Ω is computed."""
    damping: float = Field(0.1, gt=0)
    """ξ: added to the squared change, so that parameters that hardly moved get no huge importance."""


class ALASSO(PathImportance, Method):
    """Fine-tuning + c Σ f, an asymmetric quadratic around θ*.

    Attributes:
        previous: θ°.
    """

    term = "alasso"
    Options = ALASSOOptions
    options: ALASSOOptions

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.previous = PerParameter(names(network.embedder))

    def penalty(self) -> Tensor:
        """Σ f over all parameters that have an importance, a scalar; 0 where none has one."""
        parameters = trained(self.network.embedder)
        total = zero(parameters)
        for name, parameter in parameters.items():
            if name in self.importance:
                around = self.anchor[name], self.importance[name], self.previous[name]
                total = total + asymmetric(parameter, *around, a=self.options.a, epsilon=self.options.epsilon)
        return total

    def stiffness(self, name: str, theta: Tensor) -> Tensor:
        """Ω on the visited side, a·Ω + ε on the other."""
        around = self.anchor[name], self.importance[name], self.previous[name]
        return stiffness(theta, *around, a=self.options.a, epsilon=self.options.epsilon)

    def finish(self, name: str) -> None:
        """Update Ω, and store where the session started as θ°."""
        o, theta, anchor = self.options, self.path.last[name], self.anchor[name]
        square, fall, smallest = (theta - anchor).square(), self.path.total[name], torch.zeros_like(theta)
        if name in self.importance:
            smallest = self.importance[name]
            around = anchor, smallest, self.previous[name]
            rise = stiffness(theta, *around, a=o.estimate_a, epsilon=0.0) * square
            fall = fall - o.estimate_weight * rise
        self.importance[name] = torch.maximum(fall / (square + o.damping), smallest)
        self.previous[name] = anchor
