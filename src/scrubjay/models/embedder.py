"""Embedder (backbone, pooling, projection, unit norm) and the head that grows with every session."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from scrubjay.config import Config
from scrubjay.models import backbones
from scrubjay.models.stem import Stem


class NetworkOptions(Config):
    """What the network is made of."""

    backbone: str = backbones.DEFAULT
    """Name of a timm model."""
    pretrained: bool = True
    """Start from ImageNet weights."""
    frozen: str | None = None
    """Last module of the backbone that is never trained, with all before it: "blocks.5"; none: all are trained."""
    dim: int = Field(512, ge=2)
    """Dimension of the embedding."""
    pooling: Literal["avg", "max", "gem"] = "avg"
    """How the last feature map becomes one vector."""
    logit_scale: float = Field(16.0, gt=0)
    """Factor on the head's logits: embeddings have unit norm, so that a plain softmax over them stays flat."""


class Pooling(nn.Module):
    """Feature map to vector: mean, maximum, or generalised mean with a learned power (GeM; Radenović et al., 2018)."""

    def __init__(self, kind: Literal["avg", "max", "gem"]) -> None:
        super().__init__()
        self.kind = kind
        self.power = nn.Parameter(torch.tensor(3.0)) if kind == "gem" else None

    def forward(self, positions: Tensor) -> Tensor:
        """(B, N, C) features at N positions → (B, C)."""
        if self.power is not None:
            return positions.clamp(min=1e-6).pow(self.power).mean(1).pow(1 / self.power)
        return positions.amax(1) if self.kind == "max" else positions.mean(1)


class Embedder(nn.Module):
    """Images to points on the unit sphere."""

    mean: Tensor
    std: Tensor

    def __init__(self, options: NetworkOptions) -> None:
        """Build the backbone; the projection is drawn from torch's global generator.

        Raises:
            ConfigError: the backbone is unknown, or its weights cannot be had.
        """
        super().__init__()
        self.kind = f"{options.backbone} {options.pooling}"
        self.backbone = backbones.create(options.backbone, options.pretrained)
        self.stem = None if options.frozen is None else Stem(self.backbone, options.frozen)
        self.pooling = Pooling(options.pooling)
        self.projection = nn.Linear(backbones.channels(self.backbone), options.dim)
        mean, std = backbones.normalisation(self.backbone)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def prepare(self, images: Tensor) -> Tensor:
        """What the trained part starts from: pixels, or the activations of the frozen part.

        Args:
            images: uint8 (B, 3, H, W) in 0 … 255, or float in 0 … 1; or what this function gave for them.

        Returns:
            Float pixels in 0 … 1 (B, 3, H, W); with a frozen part its activations (B, C, h, w), without a gradient.
        """
        pixels = images.float().div(255) if images.dtype == torch.uint8 else images
        if self.stem is None or images.shape[1] != 3:
            return pixels
        return self.stem((pixels - self.mean) / self.std)

    def features(self, images: Tensor) -> Tensor:
        """Images as for `prepare`, or what it gave for them → pooled features of the backbone (B, C)."""
        start = self.prepare(images)
        if self.stem is None:
            start = (start - self.mean) / self.std
        run = self.backbone if self.stem is None else self.stem.tail
        maps: Tensor = run(start.contiguous(memory_format=torch.channels_last) if start.ndim == 4 else start)
        if maps.ndim == 3:
            positions = maps[:, int(getattr(self.backbone, "num_prefix_tokens", 0)) :]
        elif str(getattr(self.backbone, "output_fmt", "NCHW")).endswith("NHWC"):
            positions = maps.flatten(1, 2)
        else:
            positions = maps.flatten(2).transpose(1, 2)
        pooled: Tensor = self.pooling(positions)
        return pooled

    def forward(self, images: Tensor) -> Tensor:
        """Images as for `prepare`, or what it gave for them → unit embeddings float32 (B, d)."""
        return F.normalize(self.projection(self.features(images)).float(), dim=1)


class GrowingHead(nn.Module):
    """The linear classifier over the embedding: l = s·(W z + b), a row of W a class; it only ever grows.

    Its keys in a `state_dict` never change; loading a larger or smaller head resizes this one.
    """

    def __init__(self, dim: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(0, dim))
        self.bias = nn.Parameter(torch.empty(0))

    @property
    def classes(self) -> int:
        """Number of rows."""
        return len(self.weight)

    def grow(self, classes: int) -> None:
        """Add rows up to `classes`, uniform in ±1/√d; rows that are there keep their values."""
        missing, dim = classes - self.classes, self.weight.shape[1]
        if missing <= 0:
            return
        bound = 1 / math.sqrt(dim)
        rows = torch.empty(missing, dim).uniform_(-bound, bound).to(self.weight)
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), rows]))
        self.bias = nn.Parameter(torch.cat([self.bias.detach(), torch.zeros(missing).to(self.bias)]))

    def forward(self, z: Tensor) -> Tensor:
        """Embeddings (B, d) → logits (B, classes)."""
        return self.scale * F.linear(z, self.weight, self.bias)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("weight", "bias"):
            stored, own = state_dict.get(prefix + name), getattr(self, name)
            if stored is not None and stored.shape[1:] == own.shape[1:] and len(stored) != len(own):
                setattr(self, name, nn.Parameter(torch.empty_like(stored, device=own.device)))
        super()._load_from_state_dict(state_dict, prefix, *args)


class Network(nn.Module):
    """Embedder and head: what a session trains and a generation keeps."""

    def __init__(self, options: NetworkOptions) -> None:
        super().__init__()
        self.options = options
        self.embedder = Embedder(options)
        self.head = GrowingHead(options.dim, options.logit_scale)
        self.batchnorm_frozen = False
        for layer in self._frozen():
            layer.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # two to three times faster on a CPU

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) → unit embeddings (B, d) and logits (B, classes)."""
        z = self.embedder(images)
        return z, self.head(z)

    def freeze_batchnorm(self, frozen: bool) -> None:
        """Keep the statistics and affine parameters of all BatchNorm layers as they are, or let them learn."""
        self.batchnorm_frozen = frozen
        for layer in self._batchnorms():
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> Network:
        """As in torch, but frozen layers stay in evaluation mode."""
        super().train(mode)
        for layer in (*self._frozen(), *(self._batchnorms() if self.batchnorm_frozen else ())):
            layer.eval()
        return self

    def _frozen(self) -> list[nn.Module]:
        return [] if self.embedder.stem is None else self.embedder.stem.layers

    def _batchnorms(self) -> list[nn.Module]:
        """All that may be trained."""
        never = {id(part) for layer in self._frozen() for part in layer.modules()}
        found = (layer for layer in self.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm))
        return [layer for layer in found if id(layer) not in never]


def fingerprint(embedder: Embedder, preprocessing: dict[str, Any]) -> str:
    """32 hexadecimal digits that name an embedding space: equal exactly when vectors may be compared.

    Hashes the names of backbone and pooling, every weight and buffer of the embedder (normalisation included) and the
    preprocessing before it.
    """
    digest = hashlib.blake2b(json.dumps(preprocessing, sort_keys=True).encode(), digest_size=16)
    digest.update(embedder.kind.encode())
    for key, value in sorted(embedder.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
