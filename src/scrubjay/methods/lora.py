"""Low-rank adaptation: in later sessions only low-rank adapters of the backbone are trained (Hu et al., ICLR 2022).

L = L_ce + L_triplet, of a network whose backbone has the weights W + (α/r)·B A

A (r, in·k·k) and B (out, r) for every linear layer and every convolution of the trained part of the backbone, taken as
a matrix (out, in·k·k). Depthwise and other grouped convolutions, normalisation and biases are frozen; projection
and head are trained as usual. A starts uniform in ±1/√(in·k·k) and B at zero, so that a session starts exactly from the
previous network; at its end the adapters are merged into W. The initial session trains everything. Hu et al., LoRA:
Low-Rank Adaptation of Large Language Models, ICLR 2022: α about as large as r; ranks 4 to 16 are common. Keeps 0 bytes
between sessions, r·Σ(in·k·k + out)·4 bytes of adapters while one lasts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from scrubjay.losses._precision import full_precision
from scrubjay.methods import Method, MethodOptions, Pass
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session


class LoRAOptions(MethodOptions):
    """Options of low-rank adaptation."""

    rank: int = Field(8, ge=1)
    """r: rank of the adapters, reduced for layers with fewer rows or columns."""
    alpha: float = Field(8.0, gt=0)
    """α: the adapters are scaled by α/r."""
    projection: bool = True
    """Also train the projection after the backbone in later sessions."""


class Adapter(nn.Module):
    """The factors B and A for one weight; of rank 0, adding nothing, outside of later sessions.

    Attributes:
        out: rows of the weight.
        into: elements of a row of the weight.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.out, self.into = len(weight), weight[0].numel()
        self.reset(0, weight)

    def reset(self, rank: int, weight: Tensor) -> None:
        """Set B to zero and draw A from torch's CPU generator, on the device of `weight`."""
        rank = min(rank, self.out, self.into)
        bound = 1 / math.sqrt(self.into)
        A = torch.empty(rank, self.into).uniform_(-bound, bound)
        self.A = nn.Parameter(A.to(weight), requires_grad=rank > 0)
        self.B = nn.Parameter(torch.zeros(self.out, rank).to(weight), requires_grad=rank > 0)


class LoRA(Method):
    """Fine-tuning of low-rank adapters."""

    Options = LoRAOptions
    options: LoRAOptions

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        backbone = network.embedder.backbone
        self.names = [name for name, layer in backbone.named_modules() if _adaptable(layer)]
        self.adapters = nn.ModuleList(Adapter(backbone.get_parameter(f"{name}.weight")) for name in self.names)
        self._frozen: list[nn.Parameter] = []

    def begin(self, session: Session) -> None:
        """Also create the adapters in a later session, and freeze the backbone."""
        self._unfreeze()
        super().begin(session)
        self._reset(self.options.rank if self.has_past else 0)
        if self.has_past:
            embedder = self.network.embedder
            parts = [embedder.backbone, embedder.pooling, *([] if self.options.projection else [embedder.projection])]
            self._frozen = [p for part in parts for p in part.parameters() if p.requires_grad]
            for parameter in self._frozen:
                parameter.requires_grad_(False)

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy and metric loss of the network with its adapters."""
        z, logits = functional_call(self.network, self.merged(), (batch.images,))
        return self.plasticity(z, logits, batch.labels)

    def end(self, session: Session, images: Pass) -> None:
        """Merge the adapters into the weights, so that the network is the one that was trained; then as in the base."""
        with torch.no_grad():
            for name, value in self.merged().items():
                self.network.get_parameter(name).copy_(value)
        self._reset(0)
        self._unfreeze()
        super().end(session, images)

    def merged(self) -> dict[str, Tensor]:
        """The adapted weights by their names in the network; empty in the initial session."""
        if not self.has_past:
            return {}
        return {
            f"embedder.backbone.{name}.weight": adapted(weight, adapter.A, adapter.B, self.options.alpha)
            for name, weight, adapter in self._adapted()
        }

    def _adapted(self) -> Iterator[tuple[str, nn.Parameter, Adapter]]:
        for name, adapter in zip(self.names, self.adapters, strict=True):
            assert isinstance(adapter, Adapter)
            yield name, self.network.embedder.backbone.get_parameter(f"{name}.weight"), adapter

    def _reset(self, rank: int) -> None:
        for _, weight, adapter in self._adapted():
            adapter.reset(rank, weight)

    def _unfreeze(self) -> None:
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self._frozen = []


@full_precision
def adapted(W: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    """Adapted weight W + (α/r)·B A in the shape of W; equal to W to the bit where B is 0.

    Args:
        W: (out, …).
        A: (r, n), n the number of elements of a row of W.
        B: (out, r).
        alpha: α.
    """
    return W + (alpha / max(len(A), 1)) * (B @ A).view(W.shape)


def _adaptable(layer: nn.Module) -> bool:
    ungrouped = isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
    return ungrouped and bool(layer.weight.requires_grad)
