"""Learned projection P from the new space to the old, kept as the bridge of the session (BFP, CVPR 2023).

L = L_ce + L_triplet + w·(1/B) Σ_i ‖P z_n,i − z_o,i‖²    ("bfp": w·(1/√d)·(1/B) Σ_i ‖P z_n,i + b − z_o,i‖)

The new embedding may rotate or deform as long as P reverses it. P is a matrix ("linear"), one with an offset b
("affine", as in BFP), a rotation ("orthogonal"), or z + W₂ relu(W₁ z + b₁) + b₂ with a hidden layer of 2d ("mlp"). A
rotation is not trained by gradient steps: it is U Vᵀ of a running mean M of z_o z_nᵀ (share 0.1 of each batch, starting
at I/d, since one batch spans fewer directions than d), a constant for the gradient; the rotation that is kept is fitted
to all images at the session's end. The other forms are trained with the method's parameters at `training.head_lr`, and
kept as they are at the end. Each session starts from P = identity, since a network starts as its predecessor; BFP
initialises P randomly and gives it an optimizer of its own (SGD 0.1, momentum 0.9). Gu et al., Preserving Linear
Separability in Continual Learning by Backward Feature Projection, CVPR 2023: weight 1 on the second form; w = 10 is
that of `l2` and not tuned.

Keeps the bridge new → old, in bytes: d²·4 (linear), d²·4 + d·4 (affine), 2·d²·4 (orthogonal, with M),
4·d²·4 + 3·d·4 (mlp). A gallery of the previous generation is searched with query_old = normalise(bridge(z_n)), where
bridge(z) = z·Wᵀ + b for W = `bridge.weight` (d, d). One copy of the previous network while a session lasts.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import linear

from scrubjay.losses._precision import full_precision
from scrubjay.losses.projection import procrustes, projection
from scrubjay.methods import Method, MethodOptions, Pass
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session

SHARE = 0.1
"""Share of each batch in the running mean that a rotation is computed from."""


class ProjectionOptions(MethodOptions):
    """Options of the learned projection."""

    weight: float = Field(10.0, ge=0)
    """w: factor on the distance."""
    form: Literal["linear", "affine", "orthogonal", "mlp"] = "linear"
    """Form of P: a matrix, a matrix with an offset, a rotation, or a residual MLP."""
    distance: Literal["squared", "bfp"] = "squared"
    """Mean squared distance, or BFP's mean distance divided by √d."""


class Rotation(nn.Module):
    """An orthogonal map z → z·Wᵀ that is computed from correlations, not trained by gradient steps.

    Attributes:
        weight: float32 (d, d), W.
        correlation: float32 (d, d), the running mean M of z_o z_nᵀ.
    """

    weight: Tensor
    correlation: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.eye(dim))
        self.register_buffer("correlation", torch.eye(dim) / dim)

    def forward(self, z: Tensor) -> Tensor:
        """Map embeddings (B, d) to the old space, (B, d)."""
        return linear(z, self.weight.to(z))

    @torch.no_grad()
    def update(self, z_o: Tensor, z_n: Tensor) -> None:
        """Add a batch to the running mean, and compute W = argmin ‖W z_n − z_o‖² = U Vᵀ of M from it."""
        self.correlation.lerp_(correlation(z_o, z_n) / max(len(z_o), 1), SHARE)
        self.weight.copy_(rotation(self.correlation))


class Residual(nn.Module):
    """z + W₂ relu(W₁ z + b₁) + b₂; the identity as long as W₂ and b₂ are 0."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, z: Tensor) -> Tensor:
        """Map embeddings (B, d) to the old space, (B, d)."""
        change: Tensor = self.out(self.hidden(z).relu())
        return z + change


class Projection(Method):
    """Fine-tuning + distance of the projected new embeddings from the old ones."""

    Options = ProjectionOptions
    uses_teacher = True
    options: ProjectionOptions

    def __init__(self, network: Network, options: ProjectionOptions | None = None) -> None:
        super().__init__(network, options)
        dim = network.options.dim
        self.bridge: Rotation | Residual | nn.Linear
        if self.options.form == "orthogonal":
            self.bridge = Rotation(dim)
        elif self.options.form == "mlp":
            self.bridge = Residual(dim)
        else:
            self.bridge = nn.Linear(dim, dim, bias=self.options.form == "affine")
        to_identity(self.bridge)

    def begin(self, session: Session) -> None:
        """Also reset the bridge to the identity."""
        super().begin(session)
        to_identity(self.bridge)

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, metric loss, and from the second session on the projected distance."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        if self.has_past:
            z_o, _ = self.teacher_outputs(batch.images)
            if isinstance(self.bridge, Rotation):
                self.bridge.update(z_o, z_n)
            distance = projection(z_o, self.bridge(z_n), squared=self.options.distance == "squared")
            losses["projection"] = self.options.weight * distance
        return losses

    def end(self, session: Session, batches: Pass) -> None:
        """Also fit a rotation to all images of the session."""
        super().end(session, batches)
        if self.has_past and isinstance(self.bridge, Rotation):
            self.bridge.weight.copy_(self._fitted(batches))

    @torch.no_grad()
    def _fitted(self, batches: Pass) -> Tensor:
        """The rotation fitted to all images; a small multiple of the identity fixes directions that no image spans."""
        d, images = self.network.options.dim, 0
        total = torch.zeros(d, d, dtype=torch.float64)
        for batch in batches():
            z_o, z_n = self.teacher_outputs(batch.images)[0], self.network(batch.images)[0]
            total += correlation(z_o.cpu().double(), z_n.cpu().double())
            images += len(z_n)
        return rotation(total / max(images, 1) + 1e-6 / d * torch.eye(d, dtype=torch.float64))


@torch.no_grad()
@full_precision
def correlation(z_o: Tensor, z_n: Tensor) -> Tensor:
    """Correlation Σ_i z_o,i z_n,iᵀ of embeddings (B, d) and (B, d), a matrix (d, d)."""
    return z_o.T @ z_n


def rotation(M: Tensor) -> Tensor:
    """Orthogonal W with the smallest Σ_i ‖W z_n,i − z_o,i‖², from M = Σ_i z_o,i z_n,iᵀ: U Vᵀ of M = U Σ Vᵀ."""
    return procrustes(torch.eye(len(M), dtype=M.dtype, device=M.device), M)


@torch.no_grad()
def to_identity(bridge: nn.Module) -> None:
    """Set a bridge to the identity; the hidden layer of an MLP is drawn from torch's global generator."""
    if isinstance(bridge, Residual):
        bridge.hidden.reset_parameters()
        bridge.out.weight.zero_()
        bridge.out.bias.zero_()
    elif isinstance(bridge, nn.Linear):
        nn.init.eye_(bridge.weight)
        if bridge.bias is not None:
            bridge.bias.zero_()
    elif isinstance(bridge, Rotation):
        nn.init.eye_(bridge.weight)
        bridge.correlation.copy_(bridge.weight / len(bridge.weight))
