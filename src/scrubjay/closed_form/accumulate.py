"""Statistics of images, accumulated by workers: each adds up the features of a chunk, and only sums are sent.

The sums of the chunks are added in the order of the chunks, so the result depends neither on the speed of a worker nor
on one that died. The chunks are large, since a sum has p·(p + 1)/2·8 bytes whatever the number of images in it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from safetensors.torch import load, save

from scrubjay.closed_form.crops import CropWorker, save_trunk
from scrubjay.closed_form.statistics import Accumulator, Statistics
from scrubjay.data.images import ImageOptions
from scrubjay.errors import CheckpointError
from scrubjay.models.checkpoint import load_tensors, save_tensors
from scrubjay.models.embedder import Network
from scrubjay.models.embedding import trunk_era
from scrubjay.progress import track
from scrubjay.types import Sample
from scrubjay.workers import HERE, Workers

SECONDS = 60.0
"""Time between two writes of the sum so far: the most that a killed process loses."""
CHUNKS = 4
"""Least number of chunks for each worker, so that they end at about the same time."""


class StatisticsWorker(CropWorker):
    """Adds up the features of chunks in a process of its own; the arguments are those of `CropWorker`."""

    def __call__(self, samples: Iterable[Sample]) -> bytes:
        """Statistics of a chunk of images, without their era; see `Statistics.to_tensors`."""
        collected = Accumulator("", self.embedder.projection.in_features)
        for crops in self.crops(samples):
            collected.add(crops.features, crops.labels)
        return save(collected.statistics().to_tensors())


def accumulate(
    network: Network,
    images: ImageOptions,
    samples: Sequence[Sample],
    views: int,
    folder: Path,
    workers: Workers = HERE,
) -> Statistics:
    """Statistics of the trunk features of images: of the centre crop and of random crops of each.

    Args:
        network: the network whose trunk takes the features.
        images: how images are prepared.
        samples: the images, with the labels that the statistics tell apart.
        views: number of random crops of each image.
        folder: folder for the weights and for the sum so far, from which the same call goes on when interrupted; it is
            not deleted. The machines of a cluster see it under the same path.
        workers: where the work is done.

    Raises:
        ImageError: an image cannot be decoded and `images.on_error` is "raise", or none of a chunk can.
        DataError: a feature is not finite.
        StorageError: processes died repeatedly on the same chunk, or the cluster failed.
    """
    era, dim = trunk_era(network.embedder, images), network.embedder.projection.in_features
    trunk = folder.absolute() / "trunk.safetensors"
    save_trunk(trunk, network, images)
    size = _chunk_size(len(samples), dim, views, workers)
    identity = hashlib.blake2b(repr((era, views, size, samples)).encode(errors="replace")).hexdigest()
    total, done = _resumed(folder, era, identity) or (Statistics.empty(era, dim), 0)
    starts = range(done, len(samples), size)
    chunks = (samples[start : start + size] for start in starts)
    with closing(workers.run(StatisticsWorker, (str(trunk), views), chunks)) as results:
        began = time.monotonic()
        for start, part in track(zip(starts, _parts(era, results), strict=True), "accumulate", len(starts)):
            total = total + part
            if time.monotonic() - began >= SECONDS:
                _save(folder, total, {"identity": identity, "done": start + size})
                began = time.monotonic()
    return total


def _save(folder: Path, total: Statistics, info: dict[str, str | int]) -> None:
    """Write a sum with all its bits, which `Statistics.to_tensors` does not keep where it writes a factor."""
    tensors = {"labels": total.labels, "counts": total.counts, "means": total.means, "scatter": total.scatter}
    save_tensors(_path(folder), tensors, info)


def _parts(era: str, results: Iterable[bytes]) -> Iterator[Statistics]:
    for result in results:
        yield Statistics.from_tensors(era, load(result))


def _chunk_size(images: int, dim: int, views: int, workers: Workers) -> int:
    """Number of images of a chunk: so many that their features would take more bytes than their statistics."""
    worthwhile = -(-4 * dim // (1 + views))
    return max(1, min(worthwhile, -(-images // (CHUNKS * workers.processes))))


def _resumed(folder: Path, era: str, identity: str) -> tuple[Statistics, int] | None:
    if _path(folder).exists():
        with suppress(CheckpointError, KeyError, TypeError, ValueError):
            tensors, info = load_tensors(_path(folder), "delete it")
            if info["identity"] == identity:
                return Statistics(era, **tensors), int(info["done"])
    return None


def _path(folder: Path) -> Path:
    return folder / "sum.safetensors"
