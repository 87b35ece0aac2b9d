"""Loading of samples in batches: images are decoded once, cached in memory while there is room, and cropped per use.

Augmentation is a function of (image, seed) alone, so the contents of a batch depend neither on the number of workers
nor on earlier batches.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from scrubjay.data.images import Box, ImageOptions, decode_to_resize
from scrubjay.data.transforms import augmented, centre_crop, resized
from scrubjay.errors import ImageError
from scrubjay.progress import track
from scrubjay.types import Batch, Sample

Key = int | tuple[int, int]
"""Index of a sample for its centre crop, or (index, seed) for a random crop."""


class Cache:
    """Decoded and resized images, uint8, in memory. Nothing is evicted: epochs visit images in random order.

    The last image is kept in any case, so that the crops of an image that follow each other decode it once.

    One cache may serve several `ImageLoader`s, so that the test images of a stream are decoded once for all sessions.
    It is meant for one run: a file that changes on disk is not read again. Forked workers start with the contents of
    their parent's cache and share its budget; images that they add are lost when they end.

    Attributes:
        room: free bytes.
    """

    def __init__(self, megabytes: int) -> None:
        self.room = megabytes * 2**20
        self._cached: dict[tuple[str, Box | None, int], Tensor] = {}
        self._last: dict[tuple[str, Box | None, int], Tensor] = {}

    def get(self, sample: Sample, options: ImageOptions) -> Tensor:
        """The resized image of a sample: uint8 (3, H, W).

        Raises:
            ImageError: it cannot be decoded.
        """
        key = (str(sample.path), sample.box, options.resize)
        pixels = self._cached.get(key, self._last.get(key))
        if pixels is None:
            pixels = resized(decode_to_resize(sample.path, options, sample.box), options.resize)
            self._last = {key: pixels}
            if pixels.nbytes <= self.room:
                self.room -= pixels.nbytes
                self._cached[key] = pixels
        return pixels

    def __getstate__(self) -> dict[str, object]:
        """An empty cache of the same size: decoding an image is cheaper than sending it to a spawned worker."""
        return {"room": self.room + sum(pixels.nbytes for pixels in self._cached.values()), "_cached": {}, "_last": {}}


class ImageLoader(Dataset[Tensor]):
    """Samples as tensors: uint8 (3, size, size), RGB, not normalised.

    In training the key of an image is (index, seed), which gives a random crop and flip determined by the seed. In
    evaluation the key is the index, which gives the centre crop.

    Args:
        samples: the images; batches carry their labels and their positions in this sequence.
        options: how images are decoded, resized and cropped.
        train: whether crops are random.
        cache: a cache shared with other loaders; by default a new one of `options.cache_mb`.
    """

    def __init__(
        self, samples: Sequence[Sample], options: ImageOptions, train: bool, cache: Cache | None = None
    ) -> None:
        self.samples = samples
        self.options = options
        self.train = train
        self.cache = Cache(options.cache_mb) if cache is None else cache

    def of(self, samples: Sequence[Sample], train: bool) -> Self:
        """A loader of other samples with the same options and the same cache."""
        loader = copy.copy(self)
        loader.samples, loader.train = samples, train
        return loader

    def check(self, index: int) -> None:
        """Make sure that an image can be decoded, and cache it if there is room.

        Raises:
            ImageError: it cannot be decoded.
        """
        self.cache.get(self.samples[index], self.options)

    def view(self, key: tuple[int, int]) -> int:
        """The seed of a crop: that of the key, or with `options.views` one of that many seeds of the image."""
        index, seed = key
        if self.options.views is None:
            return seed
        return zlib.crc32(f"{self.samples[index].path.name} {seed % self.options.views}".encode(errors="replace"))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> Tensor:
        """One image.

        Raises:
            ImageError: it cannot be decoded.
        """
        if isinstance(key, tuple):
            return augmented(self.cache.get(self.samples[key[0]], self.options), self.options, self.view(key))
        if self.train:
            raise TypeError(f"a training image needs the key (index, seed), not {key!r}")
        return centre_crop(self.cache.get(self.samples[key], self.options), self.options.size)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """One batch of the images that can be decoded; the others are listed among its failures."""
        images, indices, failures = [], [], []
        for key in keys:
            index = key[0] if isinstance(key, tuple) else key
            try:
                images.append(self[key])
                indices.append(index)
            except ImageError as error:
                path = str(self.samples[index].path)
                failures.append((path, str(error).removeprefix(f"{path}: ")))
        size = self.options.size
        return Batch(
            torch.stack(images) if images else torch.empty(0, 3, size, size, dtype=torch.uint8),
            torch.tensor([self.samples[index].label for index in indices], dtype=torch.int64),
            torch.tensor(indices, dtype=torch.int64),
            tuple(failures),
        )


def readable(loader: ImageLoader) -> tuple[list[Sample], tuple[tuple[str, str], ...]]:
    """Decode all samples, and cache them while there is room.

    Returns:
        The samples that can be decoded; and path and reason of those that cannot.

    Raises:
        ImageError: an image cannot be decoded and `on_error` is "raise".
    """
    good, failures = [], []
    for index, sample in enumerate(track(loader.samples, "read images", len(loader.samples))):
        try:
            loader.check(index)
            good.append(sample)
        except ImageError as error:
            if loader.options.on_error == "raise":
                raise
            failures.append((str(sample.path), str(error).removeprefix(f"{sample.path}: ")))
    return good, tuple(failures)


def batches(loader: ImageLoader, index_batches: Iterable[Sequence[Key]]) -> Iterator[Batch]:
    """The batches with the given keys, in their order.

    `index_batches` is read lazily: pass the batches of all epochs at once, so that workers keep their caches between
    epochs. A batch in which no image can be decoded is left out; its failures are listed in a neighbouring batch.

    Raises:
        ImageError: an image cannot be decoded and `on_error` is "raise", or no image at all can be decoded.
    """
    options = loader.options
    decoding = DataLoader(
        loader,
        batch_sampler=index_batches,  # type: ignore[arg-type]
        num_workers=options.workers,
        collate_fn=_as_is,
        worker_init_fn=_share_memory,
        generator=torch.Generator(),  # else it draws from the global generator, and a resumed run is not exact
    )
    return _without_empty(_checked(decoding, options))


def eval_batches(
    samples: Sequence[Sample], options: ImageOptions, batch_size: int, cache: Cache | None = None
) -> Iterator[Batch]:
    """Centre crops of all samples in order, `batch_size` at a time; see `batches`. By default no image is cached."""
    return in_order(ImageLoader(samples, options, train=False, cache=Cache(0) if cache is None else cache), batch_size)


def in_order(loader: ImageLoader, batch_size: int) -> Iterator[Batch]:
    """Centre crops of a loader's images in order, `batch_size` at a time; see `batches`."""
    size = len(loader)
    starts = range(0, size, batch_size)
    return batches(loader, [range(start, min(start + batch_size, size)) for start in starts])


def crops_per_image(loader: ImageLoader, views: int) -> int:
    """Number of crops of an image: its centre crop and `views` random ones, at most `options.views` of them."""
    limit = loader.options.views
    return 1 + (views if limit is None else min(views, limit))


def with_views(loader: ImageLoader, views: int, batch_size: int, first: int = 0) -> Iterator[Batch]:
    """The centre crop of each image and `views` random crops of it, image by image in order; see `batches`.

    A random crop depends on the name of the image's file and the crop's number alone, so it is the same at every call
    and wherever the image is in the list. With `options.views` at most that many crops are given.

    Args:
        loader: the images, for evaluation (`train` is false).
        views: number of random crops of each image.
        batch_size: number of crops in a batch; all crops of an image are in one batch.
        first: position of the first image.
    """
    crops = crops_per_image(loader, views)
    loader = copy.copy(loader)
    loader.options = loader.options.model_copy(update={"views": max(1, crops - 1)})
    images = max(1, batch_size // crops)
    parts = (range(start, min(start + images, len(loader))) for start in range(first, len(loader), images))
    return batches(loader, [[key for index in part for key in _crops(index, crops - 1)] for part in parts])


def _crops(index: int, views: int) -> list[Key]:
    return [index, *((index, seed) for seed in range(views))]


def _as_is(batch: Any) -> Any:
    return batch


def _share_memory(_: int) -> None:
    worker = get_worker_info()
    worker.dataset.cache.room //= worker.num_workers  # type: ignore[union-attr]


def _checked(loader: Iterable[Batch], options: ImageOptions) -> Iterator[Batch]:
    for batch in loader:
        if batch.failures and options.on_error == "raise":
            raise ImageError(": ".join(batch.failures[0]))
        yield batch


def _without_empty(loaded: Iterable[Batch]) -> Iterator[Batch]:
    """Leave out batches without an image, and pass their failures on to the next batch, or the last one."""
    previous: Batch | None = None  # held back, since the failures of empty batches at the end belong to it
    pending: tuple[tuple[str, str], ...] = ()
    for batch in loaded:
        pending += batch.failures
        if len(batch.labels):
            if previous is not None:
                yield previous
            previous, pending = replace(batch, failures=pending), ()
    if previous is not None:
        yield replace(previous, failures=previous.failures + pending)
    elif pending:
        raise ImageError(f"none of {len(pending)} images can be decoded; the first is {': '.join(pending[0])}")
