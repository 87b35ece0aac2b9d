"""Layer moments: Kronecker-factored penalty on weight changes, in embedding space, with stored negatives.

L = L_ce + L_triplet + b·L_apart + w·Σ_l tr(G_l ΔW_l A_l ΔW_lᵀ),   ΔW_l = W_l − W*_l

W*: the layer's weights after the previous session. A_l = E[x xᵀ] and G_l = E[Jᵀ J] over the images of all earlier
sessions: second moments of the layer's inputs and of the derivative of the embedding by its outputs, computed once at
the end of each session (`components/layer_moments.py`; for a convolution G_l also contains the factor that makes the
trace exact). Each term approximates the mean squared distance that the change of one layer alone would move the
embeddings of old images, to second order and with A and G taken as independent. Terms between layers are missing, so
that the sum is a useful estimate where few layers are trained and too small where the whole network is
(docs/moments.md). Each matrix is kept as its r largest eigenvalues plus a multiple of the identity that holds the rest
of the trace. So with more than r eigenvalues above 0 no direction of weight space is free: those that old images do not
use at all cost as much as the mean of those beyond the first r, which is little, and new classes learn mainly there.
Distillation on new images, in contrast, penalises changes of the outputs for new images, whether old ones need them or
not. L_apart pushes new images away from a few stored embeddings of each old class, which remain valid as long as old
embeddings hardly move (`losses/apart.py`).

This project's own method. Related: Kronecker-factored Laplace approximations of the loss (Ritter et al., Online
Structured Laplace Approximations, NeurIPS 2018), here of the embedding instead of the loss, so that neither labels nor
a head take part; orthogonal and null-space training, which forbid what is only penalised here (OWM, Zeng et al.,
Nature Machine Intelligence 2019; GPM, Saha et al., ICLR 2021; Adam-NSCL, Wang et al., CVPR 2021).
Biases of these layers are included; BatchNorm is expected to be frozen after the first session.
Keeps, with n inputs and m outputs of a layer and rank r, (n + m)·r·4 bytes per layer (a depthwise one has as many small
matrices as channels), and C·(k·d·4 + 8·k + d·4 + 8) bytes for k stored embeddings of each of C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from scrubjay.components.layer_moments import MomentRecorder, layers, matrix
from scrubjay.components.layer_moments import Moments as LayerMoments
from scrubjay.components.memory import Memory
from scrubjay.losses.apart import apart
from scrubjay.methods import Method, MethodOptions, Pass
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session


class MomentsOptions(MethodOptions):
    """Options of the penalty and of the stored negatives."""

    weight: float = Field(60.0, ge=0)
    """w, weight of the estimated squared distance that old embeddings would move."""
    rank: int = Field(64, ge=1)
    """r: eigenvectors kept per matrix of moments; the rest is replaced by a multiple of the identity of equal trace."""
    apart_weight: float = Field(1.0, ge=0)
    """b, weight of the triplet loss with stored embeddings as negatives."""
    budget: int = Field(10, ge=1)
    """k: embeddings stored per class."""


class Moments(Method):
    """Fine-tuning + b·L_apart + w·Σ_l tr(G_l ΔW_l A_l ΔW_lᵀ)."""

    has_memory = True
    Options = MomentsOptions
    uses_teacher = True
    options: MomentsOptions
    counted: Tensor

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.moments = nn.ModuleDict(
            {_key(name): LayerMoments(layer, self.options.rank) for name, layer in layers(network.embedder).items()}
        )
        self.register_buffer("counted", torch.zeros((), dtype=torch.int64))

    def make_memory(self) -> Memory:
        """Class means, and a few embeddings per class."""
        return Memory(self.network.options.dim, budget=self.options.budget)

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, metric loss, and from the second session on both further terms."""
        z, logits = self.network(batch.images)
        losses = self.plasticity(z, logits, batch.labels)
        if self.has_past:
            assert self.memory is not None
            stored = self.memory.vectors[self.memory.labels < self.first_label]
            losses["apart"] = self.options.apart_weight * apart(z, batch.labels, stored, self.options.margin)
            losses["moments"] = self.options.weight * self._penalty()
        return losses

    def end(self, session: Session, images: Pass) -> None:
        """Merge the moments of the session's images, weighted by their number, and store some embeddings."""
        super().end(session, images)
        recorded = {name: layer for name, layer in layers(self.network.embedder).items() if _key(name) in self.moments}
        if not recorded:
            return
        with MomentRecorder(recorded) as recorder:
            for batch in images():
                recorder.add(self.network.embedder(batch.images))
        total = int(self.counted) + recorder.images
        for name, A, G in recorder.means():
            share, moments = recorder.images / total, self._of(name)
            moments.inputs.mix(A, share, f"the second moment of the inputs of layer {name!r}")
            moments.effects.mix(G, share, f"the second moment of the gradients at layer {name!r}")
        self.counted.fill_(total)

    def _penalty(self) -> Tensor:
        """Σ_l tr(G_l ΔW_l A_l ΔW_lᵀ)."""
        before = layers(self.teacher.embedder, trained=False)
        terms = [
            self._of(name)(matrix(layer) - matrix(before[name]))
            for name, layer in layers(self.network.embedder).items()
        ]
        return torch.stack(terms).sum() if terms else next(self.network.parameters()).new_zeros(())

    def _of(self, name: str) -> LayerMoments:
        moments = self.moments[_key(name)]
        assert isinstance(moments, LayerMoments)
        return moments


def _key(name: str) -> str:
    """The name of a module as a key of a `ModuleDict`, which may not contain dots."""
    return name.replace(".", "/")
