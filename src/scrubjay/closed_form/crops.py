"""Trunk features of crops of images, computed here or by workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load, save
from torch import Tensor

from scrubjay.data.images import ImageOptions
from scrubjay.data.loading import Cache, ImageLoader, crops_per_image, with_views
from scrubjay.models.checkpoint import load_into, load_tensors, save_tensors
from scrubjay.models.embedder import Embedder, Network, NetworkOptions
from scrubjay.models.embedding import batch_size
from scrubjay.models.folding import folded
from scrubjay.types import Sample

CHUNK = 64
"""Images that a worker is given at a time: some seconds of work."""
CACHE_MB = 256
"""Memory of a worker for the decoded images of a chunk."""


class Crops(NamedTuple):
    """Trunk features of crops.

    Attributes:
        features: float16 (B, p).
        labels: int64 (B,), classes of the images.
        positions: int64 (B,), positions of the images in the list that is passed over, ascending.
    """

    features: Tensor
    labels: Tensor
    positions: Tensor

    def to_bytes(self) -> bytes:
        """The crops as the content of a safetensors file."""
        return save(self._asdict())

    @classmethod
    def from_bytes(cls, content: bytes, first: int = 0) -> Crops:
        """The inverse of `to_bytes`.

        Args:
            content: what `to_bytes` returned.
            first: position of the first image of the crops' list in the list that is passed over.
        """
        crops = cls(**load(content))
        return crops._replace(positions=crops.positions + first)

    @classmethod
    def joined(cls, parts: Iterable[Crops]) -> Crops:
        """All crops of at least one part."""
        return cls(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def by_batch(self, images: int) -> Iterator[Crops]:
        """The same crops in the batches that they were computed in, of this many images of the list each."""
        _, sizes = torch.unique_consecutive(self.positions // images, return_counts=True)
        for parts in zip(*(torch.split(each, sizes.tolist()) for each in self), strict=True):
            yield Crops(*parts)


def images_per_batch(embedder: Embedder, loader: ImageLoader, views: int) -> int:
    """Number of images whose crops are in one forward pass."""
    return max(1, batch_size(embedder, loader.options) // crops_per_image(loader, views))


@torch.no_grad()
def features_of_crops(embedder: Embedder, loader: ImageLoader, views: int, first: int = 0) -> Iterator[Crops]:
    """Batches of features of the centre crop and of random crops of each image, in order.

    Args:
        embedder: the network, in evaluation mode.
        loader: the images, for evaluation (`train` is false).
        views: number of random crops of each image.
        first: position of the first image that is passed over.

    Raises:
        ImageError: see `scrubjay.data.loading.batches`.
    """
    size = images_per_batch(embedder, loader, views) * crops_per_image(loader, views)
    for batch in with_views(loader, views, size, first):
        features = embedder.features(batch.images.to(embedder.mean.device))
        yield Crops(features.half().cpu(), batch.labels, batch.indices)


def save_trunk(path: Path, network: Network, images: ImageOptions) -> None:
    """Write what `CropWorker` needs to a file, atomically."""
    info = {"network": network.options.model_dump(mode="json"), "images": images.model_dump(mode="json")}
    save_tensors(path, network.embedder.state_dict(), info)


class CropWorker:
    """Computes features of crops in a process of its own; see `scrubjay.workers`.

    Args:
        trunk: file that `save_trunk` wrote.
        views: number of random crops of each image.

    Raises:
        CheckpointError: the file is missing or damaged.
    """

    def __init__(self, trunk: str, views: int) -> None:
        tensors, info = load_tensors(Path(trunk), "give the same command again")
        options = NetworkOptions.parse({**info["network"], "pretrained": False}, "network")
        embedder = Network(options).embedder
        load_into(embedder, tensors, Path(trunk))
        self.embedder = folded(embedder.eval())
        self.images = ImageOptions.parse({**info["images"], "workers": 0}, "images")
        self.views = views

    def crops(self, samples: Iterable[Sample]) -> Iterator[Crops]:
        """Batches of the features of a chunk of images."""
        loader = ImageLoader(list(samples), self.images, train=False, cache=Cache(CACHE_MB))
        return features_of_crops(self.embedder, loader, self.views)

    def __call__(self, samples: Iterable[Sample]) -> bytes:
        """Features of the crops of a chunk of images; see `Crops.to_bytes`."""
        return Crops.joined(self.crops(samples)).to_bytes()
