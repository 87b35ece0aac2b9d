"""Parameters stay where they were, weighed by how much the output depends on them (Aljundi et al., ECCV 2018).

L = L_ce + L_triplet + λ Σ_i Ω_i (θ_i − θ*_i)²

θ* are the embedder's parameters after the last session; Ω_i = Σ over sessions of (1/N) Σ_x |∂‖f(x)‖²/∂θ_i|, needing
no labels. f(x) = W z + b, the scores of all classes so far without their factor s: the embedding z itself has norm 1,
and the gradient of the norm of the projection before it points along z, which is just what the normalisation throws
away. The head takes no part: its old rows get no gradient from new classes. λ = 1 in the paper. Keeps P·4 bytes: Ω,
for P trained parameters of the embedder; while a session lasts as much again, θ*.
"""

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import AliasChoices, Field
from torch import Tensor

from scrubjay.components.importance import PerParameter, keep, mean_slope, names, one_by_one, penalty, trained
from scrubjay.methods import Method, MethodOptions, Pass
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session


class MASOptions(MethodOptions):
    """Memory aware synapses."""

    weight: float = Field(1.0, ge=0)
    """λ."""
    images: int = Field(500, ge=1, validation_alias=AliasChoices("images", "pictures"))
    """How many images of a session Ω is taken from, a pass for each."""


class MAS(Method):
    """Fine-tuning + λ Σ Ω (θ − θ*)²."""

    has_memory = True
    Options = MASOptions
    options: MASOptions

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.anchor = PerParameter(names(network.embedder))
        self.omega = PerParameter(names(network.embedder))

    def begin(self, session: Session) -> None:
        """Take down θ*."""
        super().begin(session)
        keep(self.anchor, trained(self.network.embedder))

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, triplet, and the penalty once there are old classes."""
        losses = super().loss(batch)
        if self.has_past:
            losses["mas"] = self.options.weight * penalty(trained(self.network.embedder), self.anchor, self.omega)
        return losses

    def end(self, session: Session, images: Pass) -> None:
        """Add the sensitivity to this session's images to Ω."""
        super().end(session, images)
        self.anchor.clear()
        self.eval()  # images come one by one, which BatchNorm could not take statistics of
        shown = one_by_one(images(), self.network.embedder, len(session.train), self.options.images)
        values = squared_norms(self.network, (image for image, _ in shown))
        for name, omega in mean_slope(values, trained(self.network.embedder), torch.abs).items():
            self.omega[name] = self.omega[name] + omega if name in self.omega else omega


def squared_norms(network: Network, images: Iterator[Tensor]) -> Iterator[tuple[float, Tensor]]:
    """‖W z + b‖² of each image (1, …), with weight 1."""
    for image in images:
        scores = network(image)[1] / network.head.scale
        yield 1.0, scores.float().square().sum()
