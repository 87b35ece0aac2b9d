"""The embedder (backbone, pooling, projection, L2 normalisation), and the network of embedder and head."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from scrubjay.config import Config
from scrubjay.errors import ConfigError
from scrubjay.models import backbones, pretrained
from scrubjay.models.head import GrowingHead
from scrubjay.models.pretrained import BackboneOrigin
from scrubjay.models.stem import Stem
from scrubjay.models.transform import Kind, Transform
from scrubjay.models.trunk import Trunk

if TYPE_CHECKING:
    from scrubjay.models.shared_batch import SharedBatch


class NetworkOptions(Config):
    """The architecture of the network, and its initial weights."""

    backbone: str = backbones.DEFAULT
    """Name of a timm model; or `hf-hub:owner/name[@revision]` or `local-dir:FOLDER`, a model as timm writes it."""
    pretrained: bool = True
    """Start from ImageNet weights."""
    weights: str | None = None
    """Weights in place of those that timm publishes: a safetensors or PyTorch file, or a folder that holds one."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """SHA-256 of the file of the weights, where they are not timm's own: a file of another one is refused."""
    origin: BackboneOrigin | None = None
    """Where such weights came from; filled in when the network is created."""
    frozen: str | None = None
    """Name of a backbone module such as "blocks.5": it and all modules before it are never trained; "all" freezes the
    whole backbone. By default, or with "none", the whole backbone is trained."""
    features: Literal["last", "stages"] | Annotated[tuple[str, ...], Field(min_length=1)] = "last"
    """What the projection sees: the pooled last feature map; or mean and standard deviation of the maps of all stages
    of the backbone ("stages") or of the named modules, and a transformer's class token after each."""
    transform: Kind = "none"
    """Fixed transform of these features before the projection: signed square roots ("root"), or random features with
    the nonlinearity "relu" or "gelu"."""
    random_features: int = Field(4096, ge=2)
    """Number of random features, where `transform` is "relu" or "gelu"; the solution takes its square in memory."""
    dim: int = Field(512, ge=2)
    """Dimension of the embedding."""
    pooling: Literal["avg", "max", "gem"] = "avg"
    """How the last feature map is pooled to one vector: mean, maximum, or generalised mean (GeM)."""
    logit_scale: float = Field(16.0, gt=0)
    """Factor on the head's logits: embeddings have unit norm, so a softmax over unscaled logits would stay flat."""

    @field_validator("frozen", mode="after")
    @classmethod
    def _nothing_frozen(cls, value: str | None) -> str | None:
        return None if value == "none" else value

    @model_validator(mode="after")
    def _pooled_once(self) -> Self:
        if self.features != "last" and self.pooling != "avg":
            raise ValueError(f"pooling = {self.pooling!r} applies to features = 'last' only; leave one of the two out")
        return self


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
    """Maps images to trunk features, and these to embeddings on the unit sphere.

    Attributes:
        options: its options, with the origin of weights that are not timm's own.
        trunk: the stages whose features are taken; None: those of the last feature map.
        stem: the frozen part of the backbone; None: all of it is trained.
        transform: fixed transform of the features of the backbone.
        shared: shares batches with other processes while they train together; see `models.shared_batch`.
        projection: linear map from the p trunk features to the embedding before its normalisation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, options: NetworkOptions) -> None:
        """Build the backbone; the projection is drawn from torch's global generator.

        Raises:
            ConfigError: the backbone is unknown, its weights are not available, or it has no such stages.
            HubError: it is on the Hub, which does not have it or cannot be reached.
        """
        super().__init__()
        self.shared: SharedBatch | None = None
        self.options, self.backbone = _created(options)
        self.trunk = None if options.features == "last" else _trunk(self.backbone, options.features)
        taken = options.pooling if self.trunk is None else ",".join(self.trunk.widths)
        self.kind = f"{_architecture(self.options)} {taken}"
        self.stem = None if options.frozen is None else Stem(self.backbone, options.frozen, self.trunk)
        self.pooling = Pooling(options.pooling)
        width = backbones.channels(self.backbone) if self.trunk is None else self.trunk.width
        self.transform = Transform(options.transform, width, options.random_features)
        if options.transform != "none":
            self.kind += f" {options.transform} {self.transform.outputs}"
        self.projection = nn.Linear(self.transform.outputs, options.dim)
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
            Float pixels in 0 … 1 (B, 3, H, W); with a frozen part its activations (B, C, h, w), without a gradient; see
            `Stem` for what they hold where features of stages are taken.
        """
        pixels = images.float().div(255) if images.dtype == torch.uint8 else images
        if self.stem is None or images.shape[1] != 3:
            return pixels
        return self.stem((pixels - self.mean) / self.std, batch_invariant)

    def features(self, images: Tensor) -> Tensor:
        """Images as for `prepare`, or its result → trunk features (B, p), transformed as `network.transform` says."""
        shared, own = self.shared, self.backbone_features
        return self.transform(own(images) if shared is None else shared(own, images))  # type: ignore[no-any-return]

    def backbone_features(self, images: Tensor) -> Tensor:
        """Images as for `prepare`, or its result → `network.features` of the backbone, not transformed."""
        start, frozen = self.prepare(images), list[Tensor]()
        run, stages = self.backbone, [] if self.trunk is None else list(self.trunk.widths)
        if self.stem is None:
            start = (start - self.mean) / self.std
        elif self.trunk is not None and self.stem.whole:
            return start
        else:
            run, stages = self.stem.tail, self.stem.rest
            start, frozen = self.stem.split(start)
        start = start.contiguous(memory_format=torch.channels_last) if start.ndim == 4 else start
        if self.trunk is None:
            pooled: Tensor = self.pooling(backbones.positions(self.backbone, run(start)))
            return pooled
        with self.trunk.recording(self.backbone, stages) as recorded:
            run(start)
        return torch.cat([*frozen, *(recorded[stage] for stage in stages)], 1)

    def pooled(self, images: Tensor) -> Tensor:
        """Images as for `prepare`, or its result → the last feature map that is computed, pooled (B, C)."""
        features = self.backbone_features(images)
        return features if self.trunk is None else self.trunk.last_mean(self.backbone, features)

    def project(self, features: Tensor) -> Tensor:
        """Trunk features (B, p) → unit embeddings float32 (B, d)."""
        return F.normalize(self.projection(features).float(), dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Images as for `prepare`, or its result → unit embeddings float32 (B, d)."""
        return self.project(self.features(images))


def _created(options: NetworkOptions) -> tuple[NetworkOptions, nn.Module]:
    """The backbone, and the options with which exactly the same one is created again."""
    if options.origin is not None and not options.pretrained:
        return options, pretrained.build(options.origin)
    found = pretrained.locate(options.backbone, options.weights, options.pretrained)
    if found is None:
        if options.sha256 is not None:
            raise ConfigError(f"network.sha256 = {options.sha256!r}: {options.backbone} is timm's own; leave it out.")
        return options, backbones.create(options.backbone, options.pretrained)
    digest = found.origin.sha256
    if options.sha256 not in (None, digest) and digest is not None:
        raise ConfigError(
            f"{found.origin.weights}: has the SHA-256 {digest}, not network.sha256 = {options.sha256}: take the file "
            "that was meant, or correct the checksum."
        )
    update = {"backbone": found.pinned, "sha256": digest or options.sha256, "origin": found.origin}
    if options.weights is not None:
        update["weights"] = str(found.file)
    return options.model_copy(update=update), pretrained.build(found.origin, found.file)


def _architecture(options: NetworkOptions) -> str:
    """What tells apart two backbones of the same weights."""
    if options.origin is None:
        return options.backbone
    arguments = options.origin.arguments
    return options.origin.architecture + (f" {json.dumps(arguments, sort_keys=True)}" if arguments else "")


def _trunk(backbone: nn.Module, features: str | tuple[str, ...]) -> Trunk:
    if features != "stages":
        for name in features:
            backbones.require_module(backbone, name, "network.features")
    return Trunk(backbone, features)


class Network(nn.Module):
    """Embedder and head: trained by a session, stored as a generation."""

    def __init__(self, options: NetworkOptions) -> None:
        super().__init__()
        self.embedder = Embedder(options)
        self.options = self.embedder.options
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

    def make_trainable(self) -> None:
        """Let gradients reach all parameters but those of the frozen part and of frozen BatchNorm layers."""
        self.requires_grad_(True)
        for layer in self._frozen():
            layer.requires_grad_(False)
        self.freeze_batchnorm(self.batchnorm_frozen)

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
    return _digest(embedder, preprocessing, embedder.state_dict())


def era(embedder: Embedder, preprocessing: dict[str, Any]) -> str:
    """32 hexadecimal digits that identify a space of trunk features: equal exactly when two of them may be compared.

    As `fingerprint`, but without the projection, which the trunk features do not depend on.
    """
    state = embedder.state_dict()
    return _digest(
        embedder, preprocessing, {key: value for key, value in state.items() if not key.startswith("projection.")}
    )


def _digest(embedder: Embedder, preprocessing: dict[str, Any], tensors: dict[str, Any]) -> str:
    digest = hashlib.blake2b(json.dumps(preprocessing, sort_keys=True).encode(), digest_size=16)
    digest.update(embedder.kind.encode())
    for key, value in sorted(tensors.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
