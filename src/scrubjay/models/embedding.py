"""Images to embeddings: vectors with their labels and the fingerprint of their space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from scrubjay.data.images import ImageOptions
from scrubjay.data.loading import Cache, ImageLoader, batches, in_order
from scrubjay.data.transforms import centre_crop, resized
from scrubjay.errors import ImageError
from scrubjay.models.activations import Activations
from scrubjay.models.backbones import channels
from scrubjay.models.embedder import Embedder, era, fingerprint
from scrubjay.progress import track
from scrubjay.types import Batch, Embeddings, Sample, TrunkFeatures

BATCH = 64
"""Largest number of images in a forward pass."""
CPU_PIXELS = 4 * 224**2
"""Largest number of pixels in a forward pass on a CPU: the feature maps of more do not fit its caches, and 64 images of
224 pixels take 60 % more time each."""


def batch_size(embedder: Embedder, images: ImageOptions) -> int:
    """Number of images in a forward pass without gradients."""
    if embedder.mean.device.type != "cpu":
        return BATCH
    return max(1, min(BATCH, CPU_PIXELS // images.size**2))


def space_fingerprint(embedder: Embedder, images: ImageOptions) -> str:
    """The fingerprint of the embedding space of an embedder with these image options. Hashes all weights."""
    return fingerprint(embedder, _preprocessing(images))


def trunk_era(embedder: Embedder, images: ImageOptions) -> str:
    """The identity of the trunk features of an embedder with these image options. Hashes the weights of the trunk."""
    return era(embedder, _preprocessing(images))


def _preprocessing(images: ImageOptions) -> dict[str, Any]:
    return images.model_dump(mode="json", include={"size", "resize"})


class Encoder:
    """An embedder together with the way its images are prepared: everything that makes two vectors comparable.

    The weights are hashed once, when the encoder is made. Make a new encoder after the weights have changed.

    Args:
        embedder: the network.
        images: how images are prepared.

    Attributes:
        fingerprint: fingerprint of the embedding space.
        era: identity of the trunk features, 32 hexadecimal digits: those of two encoders are comparable exactly where
            it is the same.
    """

    def __init__(self, embedder: Embedder, images: ImageOptions) -> None:
        self.embedder = embedder
        self.images = images
        self.fingerprint = space_fingerprint(embedder, images)
        self.era = trunk_era(embedder, images)

    @property
    def dim(self) -> int:
        """Dimension d of the embeddings."""
        return self.embedder.projection.out_features

    def embed(
        self, samples: Sequence[Sample], cache: Cache | None = None, activations: Activations | None = None
    ) -> Embeddings:
        """Embed the centre crops of images, in their order.

        Args:
            samples: the images.
            cache: cache of decoded images; None: nothing is cached.
            activations: activations of the frozen part of the embedder; None: it is run.

        Returns:
            Unit vectors float32 (N, d); images that could not be decoded are missing and listed.

        Raises:
            ImageError: an image cannot be decoded and `images.on_error` is "raise", or none can.
        """
        return self._collect(self.embedder, self._loader(samples, cache, activations), self.fingerprint, self.dim)

    def features(
        self, samples: Sequence[Sample], cache: Cache | None = None, activations: Activations | None = None
    ) -> TrunkFeatures:
        """The trunk features of the centre crops of images, in their order; the arguments are those of `embed`.

        Raises:
            ImageError: an image cannot be decoded and `images.on_error` is "raise", or none can.
        """
        loader = self._loader(samples, cache, activations)
        found = self._collect(self.embedder.features, loader, self.era, self.embedder.projection.in_features)
        return TrunkFeatures(found.vectors, found.labels, self.era, found.indices, found.failures)

    @torch.inference_mode()
    def project(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit vectors float32 (N, d) of trunk features float32 (N, p) of this encoder's era.

        They are those of `embed`, up to rounding.
        """
        device = self.embedder.projection.weight.device
        vectors: NDArray[np.float32] = self.embedder.project(torch.from_numpy(features).to(device)).cpu().numpy()
        return vectors

    def embed_pixels(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed the centre crops of decoded images, in their order.

        Args:
            images: uint8 (H, W, 3) each, RGB, upright.

        Returns:
            Unit vectors float32 (N, d): those of `embed` for the same images, up to rounding.
        """
        return self._forward(self.embedder, images, self.dim)

    def pixel_features(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Trunk features float32 (N, p) of the centre crops of decoded images; see `embed_pixels`."""
        return self._forward(self.embedder.features, images, self.embedder.projection.in_features)

    def _forward(
        self, forward: Callable[[Tensor], Tensor], images: Sequence[NDArray[np.uint8]], width: int
    ) -> NDArray[np.float32]:
        options, size = self.images, batch_size(self.embedder, self.images)
        crops = [centre_crop(resized(pixels, options.resize), options.size) for pixels in images]
        loaded = (
            Batch(torch.stack(part), torch.zeros(len(part), dtype=torch.int64), torch.arange(len(part)))
            for part in (crops[start : start + size] for start in range(0, len(crops), size))
        )
        return _collected(self.embedder, forward, loaded, "", width).vectors

    def embed_crops(self, samples: Sequence[Sample], crops: int) -> NDArray[np.float32]:
        """Embed the centre crop of each image and random crops of it, which are the same ones at every call.

        Returns:
            Unit vectors float32 (N, 1 + crops, d); the centre crop comes first.

        Raises:
            ImageError: an image cannot be decoded.
        """
        centre = self.embed(samples)
        if centre.failures:
            raise ImageError(": ".join(centre.failures[0]))
        loader = ImageLoader(samples, self.images, train=True, cache=Cache(0))
        keys = [(index, seed) for index in range(len(samples)) for seed in range(crops)]
        size = max(1, batch_size(self.embedder, self.images) // crops) * crops
        loaded = batches(loader, [keys[start : start + size] for start in range(0, len(keys), size)])
        shown = track(loaded, f"embed {len(keys)} crops", -(-len(keys) // size))
        random = _collected(self.embedder, self.embedder, shown, self.fingerprint, self.dim)
        return np.concatenate([centre.vectors[:, None], random.vectors.reshape(len(samples), crops, -1)], axis=1)

    def embed_backbone(
        self, samples: Sequence[Sample], cache: Cache | None = None, activations: Activations | None = None
    ) -> Embeddings:
        """As `embed`, but the last feature map, pooled and scaled to unit norm: the baseline without training."""

        def pooled(batch: Tensor) -> Tensor:
            return F.normalize(self.embedder.pooled(batch).float(), dim=1)

        loader = self._loader(samples, cache, activations)
        return self._collect(pooled, loader, f"{self.fingerprint}-backbone", channels(self.embedder.backbone))

    def _loader(self, samples: Sequence[Sample], cache: Cache | None, activations: Activations | None) -> ImageLoader:
        loader = ImageLoader(samples, self.images, train=False, cache=Cache(0) if cache is None else cache)
        return loader if activations is None else activations.of(loader)

    def _collect(self, forward: Callable[[Tensor], Tensor], loader: ImageLoader, space: str, width: int) -> Embeddings:
        size = batch_size(self.embedder, self.images)
        loaded = track(in_order(loader, size), f"embed {len(loader)} images", -(-len(loader) // size))
        return _collected(self.embedder, forward, loaded, space, width)


@torch.inference_mode()
def _collected(
    embedder: Embedder,
    forward: Callable[[Tensor], Tensor],
    loaded: Iterable[Batch],
    space: str,
    width: int,
) -> Embeddings:
    training, device = embedder.training, next(embedder.parameters()).device
    embedder.eval()
    vectors, labels, indices = [], [], []
    failures: tuple[tuple[str, str], ...] = ()
    for batch in loaded:
        vectors.append(forward(batch.images.to(device)).float().cpu())
        labels.append(batch.labels)
        indices.append(batch.indices)
        failures += batch.failures
    embedder.train(training)
    none = torch.empty(0, dtype=torch.int64)
    return Embeddings(
        vectors=torch.cat(vectors).numpy() if vectors else np.empty((0, width), np.float32),
        labels=torch.cat([none, *labels]).numpy(),
        fingerprint=space,
        indices=torch.cat([none, *indices]).numpy(),
        failures=failures,
    )
