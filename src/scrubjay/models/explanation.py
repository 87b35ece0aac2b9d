"""Which parts of two images make them similar: the similarity, decomposed over the positions of each image.

An embedding is z = u / ‖u‖ with u = A φ + b, and the trunk features φ hold the mean m_s of the feature map f_s of each
stage s over its N_s positions x, its standard deviation, and a transformer's class token. So the similarity of a query
q and a hit h is a sum over the query's positions, with the hit held fixed:

    z_q·z_h = Σ_s Σ_x c_s(x) + r,   c_s(x) = g_s·f_s(x) / N_s,   g = Aᵀ z_h / ‖u_q‖

g_s are the components of g that belong to the means of stage s. The remainder r is what the standard deviations, the
class tokens and b contribute. The deviations belong to positions too, though not linearly: σ = Σ_x (f(x) − m)²/(N σ),
so a position contributes g_σ·(f(x) − m)²/(N σ) to them. The same holds with query and hit exchanged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scrubjay.data.loading import Cache, ImageLoader
from scrubjay.data.transforms import centre_crop, resized
from scrubjay.errors import ConfigError
from scrubjay.models import backbones
from scrubjay.models.embedder import Embedder
from scrubjay.models.embedding import Encoder
from scrubjay.models.stages import recording
from scrubjay.models.trunk import OUTPUT
from scrubjay.types import Hit, Sample


@dataclass(frozen=True, slots=True)
class Contributions:
    """What one of two images contributes to their similarity, with the other one held fixed.

    Attributes:
        positions: float32 (H, W), contribution of each position, summed over the stages. A position of a coarse map is
            spread evenly over the positions of the finest one that it covers.
        contrast: float32 (H, W), what each position contributes to `deviations`, which is their sum.
        deviations: contribution of the standard deviations of all stages.
        class_tokens: contribution of the class tokens of all stages.
        bias: contribution of the bias of the projection.
        image: uint8 (S, S, 3), the crop of the image that the network sees, which the positions cover.
    """

    positions: NDArray[np.float32]
    contrast: NDArray[np.float32]
    deviations: float
    class_tokens: float
    bias: float
    image: NDArray[np.uint8]

    @property
    def remainder(self) -> float:
        """Contribution of all but the means; together with the sum of the positions it is the similarity."""
        return self.deviations + self.class_tokens + self.bias


@dataclass(frozen=True, slots=True)
class Explanation:
    """The similarity of a query and a hit, decomposed over the positions of each.

    Attributes:
        query: contributions of the query.
        hit: contributions of the hit.
        score: cosine similarity of the two embeddings.
    """

    query: Contributions
    hit: Contributions
    score: float


@dataclass(frozen=True, slots=True)
class ExplainedHit:
    """A hit of a search with the explanation of its score.

    Attributes:
        hit: the hit.
        explanation: None where its score cannot be decomposed.
        reason: why not, as the rest of a sentence; "" with an explanation.
    """

    hit: Hit
    explanation: Explanation | None
    reason: str = ""


def explain(
    encoder: Encoder,
    query: Sample | NDArray[np.uint8],
    hit: Sample,
    hit_encoder: Encoder | None = None,
) -> Explanation:
    """Decompose the similarity of two images over the positions of each.

    Args:
        encoder: the network that embeds the query.
        query: one image: a sample, or its pixels, uint8 (H, W, 3), RGB, upright.
        hit: the other image.
        hit_encoder: the network that embeds the hit, where it is another one of a compatible space.

    Raises:
        ConfigError: features are not averages over positions: the pooling is not "avg", or the output has no grid.
        ImageError: an image cannot be decoded.
    """
    other_encoder = encoder if hit_encoder is None else hit_encoder
    one, other = _observe(encoder, query), _observe(other_encoder, hit)
    score = float(one.unit @ other.unit)
    return Explanation(
        _contributions(encoder.embedder, one, other.unit),
        _contributions(other_encoder.embedder, other, one.unit),
        score,
    )


@dataclass(frozen=True, slots=True)
class _Observed:
    """An image with everything that the network computes of it, float64.

    Attributes:
        image: uint8 (S, S, 3).
        features: φ (p,).
        maps: (h, w, C) of each stage.
        embedding: u (d,), before its normalisation.
    """

    image: NDArray[np.uint8]
    features: Tensor
    maps: Mapping[str, Tensor]
    embedding: Tensor

    @property
    def unit(self) -> Tensor:
        unit: Tensor = self.embedding / self.embedding.norm()
        return unit


@torch.inference_mode()
def _observe(encoder: Encoder, image: Sample | NDArray[np.uint8]) -> _Observed:
    embedder = encoder.embedder
    if embedder.pooling.kind != "avg":
        raise ConfigError(
            f"network.pooling = {embedder.pooling.kind!r}: only averages over positions can be explained: learn with "
            "pooling = 'avg', or with network.features = 'stages'."
        )
    if embedder.transform.kind != "none":
        raise ConfigError(
            f"network.transform = {embedder.transform.kind!r}: the similarity is no sum over positions after this "
            "transform, so it cannot be explained: learn with a method that is linear in the features, such as slda."
        )
    if isinstance(image, Sample):
        pixels = ImageLoader([image], encoder.images, train=False, cache=Cache(0))[0]
    else:
        pixels = centre_crop(resized(image, encoder.images.resize), encoder.images.size)
    names = [OUTPUT] if embedder.trunk is None else list(embedder.trunk.widths)
    training = embedder.training
    embedder.eval()
    try:
        with recording(embedder.backbone, names, _grid(embedder.backbone)) as maps:
            features = embedder.features(pixels[None].to(embedder.projection.weight.device))[0]
    finally:
        embedder.train(training)
    features = features.cpu().double()
    A, b = _projection(embedder)
    stages = {name: maps[name].cpu().double() for name in names}
    return _Observed(pixels.permute(1, 2, 0).numpy(), features, stages, A @ features + b)


def _projection(embedder: Embedder) -> tuple[Tensor, Tensor]:
    """A (d, p) and b (d,), float64."""
    return embedder.projection.weight.detach().cpu().double(), embedder.projection.bias.detach().cpu().double()


def _grid(backbone: nn.Module) -> Any:
    """A function of name and output of a stage that gives the map of one image: (h, w, C)."""

    def grid(name: str, output: Tensor) -> Tensor:
        at = backbones.positions(backbone, output)[0]
        number = len(at)
        if output.ndim == 3:
            height = width = math.isqrt(number)
        else:
            height, width = output.shape[1:3] if backbones.channels_last(backbone) else output.shape[2:]
        if height * width != number:
            raise ConfigError(
                f"the {number} positions of {name or 'the output of the backbone'!r} form no grid, so what they "
                "contribute cannot be shown on the image: use another backbone."
            )
        return at.reshape(height, width, -1).clone()  # a layer after it may change it in place

    return grid


def _contributions(embedder: Embedder, seen: _Observed, other: Tensor) -> Contributions:
    """Contributions of one image to the inner product with the unit embedding (d,) of the other one."""
    A, b = _projection(embedder)
    norm = seen.embedding.norm()
    g = A.T @ other / norm
    positions, contrasts, deviations, class_tokens, start = [], [], 0.0, 0.0, 0
    for name, maps in seen.maps.items():
        channels = maps.shape[2]
        end = start + (channels if embedder.trunk is None else embedder.trunk.widths[name])
        mean, deviation, token = _parts(seen.features[start:end], channels)
        of_mean, of_deviation, of_token = _parts(g[start:end], channels)
        positions.append((maps @ of_mean).numpy() / maps[..., 0].numel())
        if len(deviation):
            contrast = (maps - mean).square() @ (of_deviation / deviation)
            contrasts.append(contrast.numpy() / contrast.numel())
        deviations += float(of_deviation @ deviation)
        class_tokens += float(of_token @ token)
        start = end
    finest = _summed(positions)
    return Contributions(
        positions=finest.astype(np.float32),
        contrast=(_summed(contrasts) if contrasts else np.zeros_like(finest)).astype(np.float32),
        deviations=deviations,
        class_tokens=class_tokens,
        bias=float(b @ other / norm),
        image=seen.image,
    )


def _parts(values: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Components of one stage: of means, of standard deviations and of the class token; the last two may be empty."""
    return values[:channels], values[channels : 2 * channels], values[2 * channels :]


def _summed(maps: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The sum of maps at the resolution of the finest, each with its own sum preserved."""
    height, width = (max(each.shape[axis] for each in maps) for axis in (0, 1))
    total = np.zeros((height, width))
    for each in maps:
        rows, columns = (_cells(size, each.shape[axis]) for axis, size in enumerate((height, width)))
        covered = np.outer(np.bincount(rows), np.bincount(columns))
        total += (each / covered)[np.ix_(rows, columns)]
    return total


def _cells(fine: int, coarse: int) -> NDArray[np.int64]:
    """For each of `fine` cells along an axis the one of `coarse` cells that covers it; each covers at least one."""
    return np.arange(fine) * coarse // fine
