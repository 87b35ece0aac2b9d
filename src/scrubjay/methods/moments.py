"""Old images are remembered by what they did to each layer: only changes that would move their embeddings cost.

L = L_ce + L_triplet + b·L_apart + w·Σ_l tr(G_l ΔW_l A_l ΔW_lᵀ),   ΔW_l = W_l − W*_l

W*: the layer's weights after the previous session. A_l = E[x xᵀ] and G_l = E[Jᵀ J] over the images of all earlier
sessions: second moments of the layer's inputs and of the embedding's derivative by its outputs, gathered once at the
end of each session (`parts/moments.py`, where a convolution's G_l also gets the factor that makes the trace exact).
The sum is the mean squared distance that the old images' embeddings would move, to second order and layer by layer.
Directions of weight space that old images do not use are free, so that new classes learn in them; distillation on
new images, in contrast, holds what new images use, needed or not. L_apart pushes new images away from a few
stored embeddings of each old class, which stay valid since old embeddings hardly move (`losses/apart.py`).

This project's own method. Related: Kronecker-factored Laplace approximations of the loss (Ritter et al., Online
Structured Laplace Approximations, NeurIPS 2018), here of the embedding instead of the loss, so that neither labels nor
a head take part; orthogonal and null-space training, which forbid what is only charged for here (OWM, Zeng et al.,
Nature Machine Intelligence 2019; GPM, Saha et al., ICLR 2021; Adam-NSCL, Wang et al., CVPR 2021).
Biases of these layers take part; BatchNorm is expected to be frozen after the first session.
Keeps, with n inputs and m outputs of a layer and rank r, (n + m)·r·4 bytes a layer (a depthwise one has as many small
matrices as channels), and C·(k·d·4 + 8·k + d·4 + 8) bytes for k stored embeddings of each of C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from scrubjay.components.layer_moments import Moments as LayerMoments
from scrubjay.components.layer_moments import Watch, layers, matrix
from scrubjay.components.memory import Memory
from scrubjay.losses.apart import apart
from scrubjay.methods import Method, MethodOptions, Pass
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session


class MomentsOptions(MethodOptions):
    """What old images did to the layers."""

    weight: float = Field(60.0, ge=0)
    """w, weight of the squared distance that old embeddings would move."""
    rank: int = Field(64, ge=1)
    """r, directions kept of each matrix of moments; the rest is taken as even."""
    apart_weight: float = Field(1.0, ge=0)
    """b, weight of the distance to stored embeddings."""
    budget: int = Field(10, ge=1)
    """k, embeddings stored of each class."""


class Moments(Method):
    """Fine-tuning + b·L_apart + w·Σ_l tr(G_l ΔW_l A_l ΔW_lᵀ)."""

    has_memory = True
    Options = MomentsOptions
    uses_teacher = True
    options: MomentsOptions
    counted: Tensor

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        found = layers(network.embedder)
        self.moments = nn.ModuleDict(
            {_key(name): LayerMoments(layer, self.options.rank) for name, layer in found.items()}
        )
        self.register_buffer("counted", torch.zeros((), dtype=torch.int64))

    def make_memory(self) -> Memory:
        """Class means and a few embeddings of each class."""
        return Memory(self.network.options.dim, budget=self.options.budget)

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, triplet, and both terms once there are old classes."""
        z, logits = self.network(batch.images)
        losses = self.plasticity(z, logits, batch.labels)
        if self.has_past:
            assert self.memory is not None
            stored = self.memory.vectors[self.memory.labels < self.first_label]
            losses["apart"] = self.options.apart_weight * apart(z, batch.labels, stored, self.options.margin)
            losses["moments"] = self.options.weight * self._moved()
        return losses

    def end(self, session: Session, images: Pass) -> None:
        """Adds the moments of the session's images, weighed by their number, and stores some embeddings."""
        super().end(session, images)
        found = {name: layer for name, layer in layers(self.network.embedder).items() if _key(name) in self.moments}
        if not found:
            return
        with Watch(found) as watch:
            for batch in images():
                watch.add(self.network.embedder(batch.images))
        total = int(self.counted) + watch.images
        for name, A, G in watch.means():
            self._of(name).inputs.mix(A, watch.images / total, f"the second moment of the inputs of layer {name!r}")
            self._of(name).effects.mix(G, watch.images / total, f"the second moment of the gradients at layer {name!r}")
        self.counted.fill_(total)

    def _moved(self) -> Tensor:
        """Σ_l tr(G_l ΔW_l A_l ΔW_lᵀ)."""
        before = layers(self.teacher.embedder, trained=False)
        terms = [
            self._of(name)(matrix(layer) - matrix(before[name]))
            for name, layer in layers(self.network.embedder).items()
        ]
        return torch.stack(terms).sum() if terms else next(self.network.parameters()).new_zeros(())

    def _of(self, name: str) -> LayerMoments:
        found = self.moments[_key(name)]
        assert isinstance(found, LayerMoments)
        return found


def _key(name: str) -> str:
    """A name of a module as a key of a `ModuleDict`, which takes no dots."""
    return name.replace(".", "/")
