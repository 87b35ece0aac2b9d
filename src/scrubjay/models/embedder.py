"""The embedder (backbone, pooling, projection, L2 normalisation) and the classifier head that grows every session."""

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
    """The architecture of the network, and its initial weights."""

    backbone: str = backbones.DEFAULT
    """Name of a timm model."""
    pretrained: bool = True
    """Start from ImageNet weights."""
    frozen: str | None = None
    """Name of a backbone module such as "blocks.5": it and all modules before it are never trained. By default the
    whole backbone is trained."""
    dim: int = Field(512, ge=2)
    """Dimension of the embedding."""
    pooling: Literal["avg", "max", "gem"] = "avg"
    """How the last feature map is pooled to one vector: mean, maximum, or generalised mean (GeM)."""
    logit_scale: float = Field(16.0, gt=0)
    """Factor on the head's logits: embeddings have unit norm, so a softmax over unscaled logits would stay flat."""


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
    """Maps images to embeddings on the unit sphere."""

    mean: Tensor
    std: Tensor

    def __init__(self, options: NetworkOptions) -> None:
        """Build the backbone; the projection is drawn from torch's global generator.

        Raises:
            ConfigError: the backbone is unknown, or its weights are not available.
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

    def make_batch_invariant(self) -> None:
        """From now on the frozen part pads its chunks, so that an image's activations do not depend on its batch.

        Runs that promise the same result with and without cached activations call this; see `Stem` for the promise.
        Without a frozen part it has no effect.
        """
        if self.stem is not None:
            self.stem.batch_invariant = True

    def prepare(self, images: Tensor, batch_invariant: bool = False) -> Tensor:
        """The input of the trained part: pixels, or the activations of the frozen part.

        Args:
            images: uint8 (B, 3, H, W) in 0 … 255, or float in 0 … 1; or an earlier result of this function.
            batch_invariant: compute activations whose bits do not depend on the batch, as `Stem` describes.

        Returns:
            Float pixels in 0 … 1 (B, 3, H, W); with a frozen part its activations (B, C, h, w), without a gradient.
        """
        pixels = images.float().div(255) if images.dtype == torch.uint8 else images
        if self.stem is None or images.shape[1] != 3:
            return pixels
        return self.stem((pixels - self.mean) / self.std, batch_invariant)

    def features(self, images: Tensor) -> Tensor:
        """Images as for `prepare`, or its result → pooled features of the backbone (B, C)."""
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
        """Images as for `prepare`, or its result → unit embeddings float32 (B, d)."""
        return F.normalize(self.projection(self.features(images)).float(), dim=1)


class GrowingHead(nn.Module):
    """Linear classifier over the embedding: l = s·(W z + b), one row of W for each class. Rows are only ever added.

    The keys of its `state_dict` never change; loading the state of a larger or smaller head resizes this one.
    """

    def __init__(self, dim: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(0, dim))
        self.bias = nn.Parameter(torch.empty(0))

    @property
    def classes(self) -> int:
        """Number of classes, which is the number of rows of W."""
        return len(self.weight)

    def grow(self, classes: int) -> None:
        """Add rows up to `classes`, uniform in ±1/√d with bias 0; existing rows keep their values."""
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
    """Embedder and head: trained by a session, stored as a generation."""

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
        """Freeze or unfreeze the running statistics and affine parameters of all trainable BatchNorm layers."""
        self.batchnorm_frozen = frozen
        for layer in self._batchnorms():
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> Network:
        """As `nn.Module.train`, but frozen layers stay in evaluation mode."""
        super().train(mode)
        for layer in (*self._frozen(), *(self._batchnorms() if self.batchnorm_frozen else ())):
            layer.eval()
        return self

    def _frozen(self) -> list[nn.Module]:
        return [] if self.embedder.stem is None else self.embedder.stem.layers

    def _batchnorms(self) -> list[nn.Module]:
        """All BatchNorm layers outside the frozen part."""
        frozen = {id(part) for layer in self._frozen() for part in layer.modules()}
        layers = (layer for layer in self.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm))
        return [layer for layer in layers if id(layer) not in frozen]


def fingerprint(embedder: Embedder, preprocessing: dict[str, Any]) -> str:
    """32 hexadecimal digits that identify an embedding space: equal exactly when vectors may be compared.

    Hashes the names of backbone and pooling, every weight and buffer of the embedder (normalisation included) and the
    preprocessing before it.
    """
    digest = hashlib.blake2b(json.dumps(preprocessing, sort_keys=True).encode(), digest_size=16)
    digest.update(embedder.kind.encode())
    for key, value in sorted(embedder.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
