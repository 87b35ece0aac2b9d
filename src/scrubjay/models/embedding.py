"""Images through a network: vectors with their labels and the fingerprint of their space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from scrubjay.data.images import ImageOptions
from scrubjay.data.loading import Cache, ImageLoader, batches, in_order
from scrubjay.errors import ImageError
from scrubjay.models.activations import Activations
from scrubjay.models.embedder import Embedder, fingerprint
from scrubjay.progress import track
from scrubjay.types import Batch, Embeddings, Sample

BATCH = 64


def space_fingerprint(embedder: Embedder, images: ImageOptions) -> str:
    """The fingerprint of what `embed` delivers for these options."""
    return fingerprint(embedder, images.model_dump(mode="json", include={"size", "resize"}))


def embed(
    embedder: Embedder,
    samples: Sequence[Sample],
    images: ImageOptions,
    cache: Cache | None = None,
    activations: Activations | None = None,
) -> Embeddings:
    """Embed images, centre-cropped, in their order.

    Args:
        embedder: what embeds.
        samples: the images.
        images: how they are prepared.
        cache: of decoded images; none: nothing is kept.
        activations: of the embedder's frozen part; none: it is run.

    Returns:
        Unit vectors (N, d); images that could not be decoded are missing and listed.

    Raises:
        ImageError: an image cannot be decoded and `images.on_error` is "raise", or none can.
    """
    loader = _loader(samples, images, cache, activations)
    return _collect(embedder, embedder, in_order(loader, BATCH), len(loader), space_fingerprint(embedder, images))


def embed_crops(embedder: Embedder, samples: Sequence[Sample], images: ImageOptions, crops: int) -> NDArray[np.float32]:
    """Embed the middle of each image and random crops of it, which are always the same ones.

    Returns:
        float32 (N, 1 + crops, d), unit vectors; the crop in the middle comes first.

    Raises:
        ImageError: an image cannot be decoded.
    """
    middle = embed(embedder, samples, images)
    if middle.failures:
        raise ImageError(": ".join(middle.failures[0]))
    loader = ImageLoader(samples, images, train=True, cache=Cache(0))
    keys = [(index, seed) for index in range(len(samples)) for seed in range(crops)]
    size = max(1, BATCH // crops) * crops
    loaded = batches(loader, [keys[start : start + size] for start in range(0, len(keys), size)])
    found = _collect(embedder, embedder, loaded, len(samples), space_fingerprint(embedder, images))
    around = found.vectors.reshape(len(samples), crops, -1)
    return np.concatenate([middle.vectors[:, None], around], axis=1)


def embed_backbone(
    embedder: Embedder,
    samples: Sequence[Sample],
    images: ImageOptions,
    cache: Cache | None = None,
    activations: Activations | None = None,
) -> Embeddings:
    """As `embed`, but the backbone's own pooled features, brought to unit norm: what it is worth without training."""

    def pooled(batch: Tensor) -> Tensor:
        return F.normalize(embedder.features(batch).float(), dim=1)

    loader = _loader(samples, images, cache, activations)
    space = space_fingerprint(embedder, images) + "-backbone"
    return _collect(embedder, pooled, in_order(loader, BATCH), len(loader), space)


def _loader(
    samples: Sequence[Sample], images: ImageOptions, cache: Cache | None, activations: Activations | None
) -> ImageLoader:
    loader = ImageLoader(samples, images, train=False, cache=Cache(0) if cache is None else cache)
    return loader if activations is None else activations.of(loader)


@torch.inference_mode()
def _collect(
    embedder: Embedder, forward: Callable[[Tensor], Tensor], loaded: Iterable[Batch], loader: int, space: str
) -> Embeddings:
    training, device = embedder.training, next(embedder.parameters()).device
    embedder.eval()
    vectors, labels, indices = [], [], []
    failures: tuple[tuple[str, str], ...] = ()
    for batch in track(loaded, f"embed {loader} images", -(-loader // BATCH)):
        vectors.append(forward(batch.images.to(device)).float().cpu())
        labels.append(batch.labels)
        indices.append(batch.indices)
        failures += batch.failures
    embedder.train(training)
    none = torch.empty(0, dtype=torch.int64)
    return Embeddings(
        vectors=torch.cat(vectors).numpy() if vectors else np.empty((0, embedder.projection.out_features), np.float32),
        labels=torch.cat([none, *labels]).numpy(),
        fingerprint=space,
        indices=torch.cat([none, *indices]).numpy(),
        failures=failures,
    )
