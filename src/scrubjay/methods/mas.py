"""Memory aware synapses: a quadratic penalty weighted by the outputs' sensitivity (Aljundi et al., ECCV 2018).

L = L_ce + L_triplet + λ Σ_i Ω_i (θ_i − θ*_i)²

θ* are the embedder's parameters after the last session; Ω_i = Σ over sessions of (1/N) Σ_x |∂‖f(x)‖²/∂θ_i|, which needs
no labels. f(x) = W z + b, the scores of all classes so far without their factor s: the embedding z itself has norm 1,
and the gradient of the norm of the unnormalised embedding points along z, the direction that the normalisation removes.
The head is not penalised: its old rows get no gradient from new classes. λ = 1 in the paper. Keeps P·4 bytes: Ω,
for P trained parameters of the embedder; while a session lasts as much again, θ*.
"""

from collections.abc import Iterator

import torch
from pydantic import AliasChoices, Field
from torch import Tensor

from scrubjay.components.importance import SampledImportance
from scrubjay.methods import Method, MethodOptions
from scrubjay.models.embedder import Network
from scrubjay.types import Session


class MASOptions(MethodOptions):
    """Options of memory aware synapses."""

    weight: float = Field(1.0, ge=0)
    """λ: factor on the weighted sum of squares."""
    images: int = Field(500, ge=1, validation_alias=AliasChoices("images", "pictures"))
    """Largest number of images of a session that Ω is computed from, one forward pass each."""


class MAS(SampledImportance, Method):
    """Fine-tuning + λ Σ Ω (θ − θ*)²."""

    term = "mas"
    Options = MASOptions
    options: MASOptions

    def values(self, samples: Iterator[tuple[Tensor, int]], session: Session) -> Iterator[tuple[float, Tensor]]:
        """Squared norms of the class scores."""
        return squared_norms(self.network, (image for image, _ in samples))

    def measure(self, gradient: Tensor) -> Tensor:
        """Absolute value of the gradient."""
        return torch.abs(gradient)

    def merge(self, new: Tensor, old: Tensor | None) -> Tensor:
        """Sum over all sessions."""
        return new if old is None else old + new


def squared_norms(network: Network, images: Iterator[Tensor]) -> Iterator[tuple[float, Tensor]]:
    """‖W z + b‖² of each image (1, …), with weight 1."""
    for image in images:
        scores = network(image)[1] / network.head.scale
        yield 1.0, scores.float().square().sum()
