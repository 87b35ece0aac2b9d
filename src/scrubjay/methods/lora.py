"""In later sessions the backbone learns by low-rank adapters alone (Hu et al., ICLR 2022).

L = L_ce + L_triplet, of a network whose backbone has the weights W + (α/r)·B A

A (r, in·k·k) and B (out, r) for every linear layer and every convolution of the trained part of the backbone, taken as
a matrix (out, in·k·k). Depthwise and other grouped convolutions, normalisation and biases stay as they are; projection
and head learn as ever. A is uniform in ±1/√(in·k·k) and B zero in the beginning, so that a session starts from the
previous network exactly; at its end W takes the adapters in. The initial session trains everything. Hu et al., LoRA:
Low-Rank Adaptation of Large Language Models, ICLR 2022: α of the size of r; ranks 4 to 16 are in use. Keeps 0 bytes
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
    """Low-rank adapters."""

    rank: int = Field(8, ge=1)
    """r, less where a layer has fewer rows or columns."""
    alpha: float = Field(8.0, gt=0)
    """α: the adapters count α/r times."""
    projection: bool = True
    """Whether the projection after the backbone learns in later sessions too."""


class Adapter(nn.Module):
    """B A beside one weight; of rank 0, which adds nothing, while no later session lasts."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.out, self.into = len(weight), weight[0].numel()
        self.reset(0, weight)

    def reset(self, rank: int, weight: Tensor) -> None:
        """B zero and A drawn anew, from torch's CPU generator, on the device of `weight`."""
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
        self._resting: list[nn.Parameter] = []

    def begin(self, session: Session) -> None:
        """As all; in a later session adapters learn in place of the backbone."""
        self._thaw()
        super().begin(session)
        self._reset(self.options.rank if self.has_past else 0)
        if self.has_past:
            embedder = self.network.embedder
            parts = [embedder.backbone, embedder.pooling, *([] if self.options.projection else [embedder.projection])]
            self._resting = [p for part in parts for p in part.parameters() if p.requires_grad]
            for parameter in self._resting:
                parameter.requires_grad_(False)

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy and triplet of the network with its adapters."""
        z, logits = functional_call(self.network, self.merged(), (batch.images,))
        return self.plasticity(z, logits, batch.labels)

    def end(self, session: Session, images: Pass) -> None:
        """Takes the adapters into the weights, which first makes the network what was learned; then as all."""
        with torch.no_grad():
            for name, value in self.merged().items():
                self.network.get_parameter(name).copy_(value)
        self._reset(0)
        self._thaw()
        super().end(session, images)

    def merged(self) -> dict[str, Tensor]:
        """The weights that the adapters change, by their names in the network; none in the initial session."""
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

    def _thaw(self) -> None:
        for parameter in self._resting:
            parameter.requires_grad_(True)
        self._resting = []


@full_precision
def adapted(W: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    """A weight and its adapter: W + (α/r)·B A, in the shape of W; W to the bit where B is 0.

    Args:
        W: (out, …).
        A: (r, n), n the number of elements of a row of W.
        B: (out, r).
        alpha: α.
    """
    return W + (alpha / max(len(A), 1)) * (B @ A).view(W.shape)


def _adaptable(layer: nn.Module) -> bool:
    whole = isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
    return whole and bool(layer.weight.requires_grad)
