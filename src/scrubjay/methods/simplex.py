"""Fixed simplex classifier: every class has a vertex of a regular simplex from the start (CoReS; HOC).

L = λ·L_ce + L_triplet + (1 − λ)·L_contrast    (λ = 1, and no contrast, in the initial session)

L_ce = −(1/B) Σ_i log softmax(s·V z_n,i)_{y_i} over all K preallocated outputs, V the fixed vertices of a regular
simplex in d dimensions, that of a class by its label. L_contrast = InfoNCE(z_n, z_o), scale 10 (`losses/info_nce`). No
session moves the vertices, so embeddings are stationary, and those of two generations are comparable. CoReS: Biondi,
Pernici, Bruni, Del Bimbo, TPAMI 2023: λ = 1, no triplet (`metric = "none"`). HOC: Biondi et al., Stationary
Representations, CVPR 2024: λ = 0.1. The initial session is trained with V too. `ce_over` has no effect. Keeps 0 bytes
between sessions beyond the head, whose rows are vertices; with λ < 1 one copy of the previous network while a session
lasts.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from scrubjay.errors import ConfigError
from scrubjay.losses.cross_entropy import cross_entropy
from scrubjay.losses.info_nce import info_nce
from scrubjay.losses.simplex import simplex
from scrubjay.methods import Method, MethodOptions
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session


class SimplexOptions(MethodOptions):
    """Options of the fixed simplex classifier."""

    capacity: int | None = Field(None, ge=2)
    """K: number of preallocated classes, at most d + 1; None: d + 1."""
    scale: float | None = Field(None, gt=0)
    """s: factor on the cosines; None: network.logit_scale."""
    ce_share: float = Field(1.0, ge=0, le=1)
    """λ from the second session on: 1 is CoReS, 0.1 is HOC."""
    contrast_scale: float = Field(10.0, gt=0)
    """Factor on the cosines in L_contrast, an inverse temperature."""


class Simplex(Method):
    """Cross entropy with fixed vertices as classifier, and InfoNCE with the old embeddings."""

    Options = SimplexOptions
    own_start = True
    options: SimplexOptions
    vertices: Tensor

    def __init__(self, network: Network, options: Any = None) -> None:
        """Compute the vertices.

        Raises:
            ConfigError: `capacity` is more than d + 1.
        """
        options = self.Options() if options is None else options
        self.uses_teacher = options.ce_share < 1
        super().__init__(network, options)
        dim = network.options.dim
        capacity = options.capacity or dim + 1
        if capacity > dim + 1:
            raise ConfigError(
                f"method.capacity = {capacity}: {dim} dimensions have room for {dim + 1} classes; "
                f"lower it, or raise network.dim to {capacity - 1}."
            )
        self.register_buffer("vertices", simplex(dim)[:capacity], persistent=False)  # they follow from the options

    def begin(self, session: Session) -> None:
        """Also set the head's rows to the vertices of the classes so far.

        Raises:
            ConfigError: there are more classes than vertices.
        """
        needed = session.first_label + len(session.classes)
        if needed > len(self.vertices):
            raise ConfigError(
                f"method.capacity = {len(self.vertices)}: session {session.index + 1} makes {needed} classes; "
                f"train again from the first session with a method.capacity, and a network.dim, of {needed} or more."
            )
        super().begin(session)
        head = self.network.head
        with torch.no_grad():
            head.weight.copy_(self.vertices[: head.classes])
            head.bias.zero_()
        head.requires_grad_(False)

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy with the vertices, metric loss, and from the second session on InfoNCE if λ < 1."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        o = self.options
        if self.has_past and o.ce_share < 1:
            z_o, _ = self.teacher_outputs(batch.images)
            losses["ce"] = o.ce_share * losses["ce"]
            losses["contrast"] = (1 - o.ce_share) * info_nce(z_o, z_n, batch.labels, o.contrast_scale)
        return losses

    def plasticity(self, z: Tensor, logits: Tensor, labels: Tensor) -> Losses:
        """As in the base, but the softmax of the cross entropy runs over all preallocated outputs."""
        losses = super().plasticity(z, logits, labels)
        scale = self.options.scale or self.network.head.scale
        losses["ce"] = cross_entropy(scale * z @ self.vertices.T, labels)
        return losses
