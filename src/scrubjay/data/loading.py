"""Samples to batches: decoded once, kept in memory while there is room, cropped anew for every use.

Augmentation is a function of (image, seed) alone, so what a batch holds depends neither on the number of workers
nor on what was loaded before it.
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

from scrubjay.data.images import Box, ImageOptions, decode
from scrubjay.data.transforms import augmented, centre_crop, resized
from scrubjay.errors import ImageError
from scrubjay.progress import track
from scrubjay.types import Batch, Sample

Key = int | tuple[int, int]


class Cache:
    """Decoded and resized images, uint8, in memory. It fills up and then stays: epochs come round in random order.

    One cache may serve several `ImageLoader`s, so that the test images of a stream are decoded once for all sessions.
    It is for one run: a file that changes on disk is not read again. Workers start from what their parent's holds
    where processes are forked, and share the budget; what they add lives as long as they do.
    """

    def __init__(self, megabytes: int) -> None:
        self.room = megabytes * 2**20
        self._kept: dict[tuple[str, Box | None, int], Tensor] = {}

    def get(self, sample: Sample, options: ImageOptions) -> Tensor:
        """The resized image of a sample: uint8 (3, H, W).

        Raises:
            ImageError: it cannot be decoded.
        """
        key = (str(sample.path), sample.box, options.resize)
        found = self._kept.get(key)
        if found is None:
            found = _resized(sample, options)
            if found.nbytes <= self.room:
                self.room -= found.nbytes
                self._kept[key] = found
        return found

    def __getstate__(self) -> dict[str, object]:
        """Empty, with all of its room: images are cheaper to decode than to send to a spawned worker."""
        return {"room": self.room + sum(kept.nbytes for kept in self._kept.values()), "_kept": {}}


def _resized(sample: Sample, options: ImageOptions) -> Tensor:
    image = decode(sample.path, max_pixels=options.max_pixels, box=sample.box, short_side=options.resize)
    short, long = sorted(image.size)
    if options.resize**2 * long > options.max_pixels * short:
        raise ImageError(f"{sample.path}: {image.width} x {image.height} is too elongated to resize; crop it.")
    return resized(image, options.resize)


class ImageLoader(Dataset[Tensor]):
    """Samples as tensors: uint8 (3, size, size), RGB, not normalised.

    In training the key of an image is (index, seed): a random crop and flip that follow from the seed. In evaluation
    it is the index: the square in the middle.

    Args:
        samples: the images; batches carry their labels and their positions in this sequence.
        options: how they are prepared.
        train: whether crops are random.
        cache: shared with other `ImageLoader`s; by default one of their own, of `options.cache_mb`.
    """

    def __init__(
        self, samples: Sequence[Sample], options: ImageOptions, train: bool, cache: Cache | None = None
    ) -> None:
        self.samples = samples
        self.options = options
        self.train = train
        self.cache = Cache(options.cache_mb) if cache is None else cache

    def of(self, samples: Sequence[Sample], train: bool) -> Self:
        """Other samples, loaded in the same way and with the same cache."""
        other = copy.copy(self)
        other.samples, other.train = samples, train
        return other

    def check(self, index: int) -> None:
        """Make sure that an image can be had, and keep it where there is room.

        Raises:
            ImageError: it cannot be decoded.
        """
        self.cache.get(self.samples[index], self.options)

    def view(self, key: tuple[int, int]) -> int:
        """The seed of a crop: that of the key, or of one of the `options.views` that the image has."""
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
        """One batch, without the images that cannot be decoded; these are among its failures."""
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
    """The samples that can be decoded, which then are in the cache, and the others: path and reason.

    Raises:
        ImageError: one cannot be, and `on_error` is "raise".
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

    `index_batches` is read lazily: give the batches of all epochs at once, and workers keep their memory between
    epochs. A batch of which nothing could be decoded is left out and its failures go to a neighbour.

    Raises:
        ImageError: an image cannot be decoded and `on_error` is "raise", or not one of all could be.
    """
    options = loader.options
    decoding = DataLoader(
        loader,
        batch_sampler=index_batches,  # type: ignore[arg-type]
        num_workers=options.workers,
        collate_fn=_as_is,
        worker_init_fn=_share_memory,
        generator=torch.Generator(),  # else the loader draws from the global state, and resuming is not exact
    )
    return _without_empty(_checked(decoding, options))


def eval_batches(
    samples: Sequence[Sample], options: ImageOptions, batch_size: int, cache: Cache | None = None
) -> Iterator[Batch]:
    """All samples in order, centre crops, `batch_size` at a time; see `batches`. Nothing is kept without a `cache`."""
    return in_order(ImageLoader(samples, options, train=False, cache=Cache(0) if cache is None else cache), batch_size)


def in_order(loader: ImageLoader, batch_size: int) -> Iterator[Batch]:
    """All images in order, `batch_size` at a time; for images that are not for training, whose key is the index."""
    size = len(loader)
    starts = range(0, size, batch_size)
    return batches(loader, [range(start, min(start + batch_size, size)) for start in starts])


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
    held: Batch | None = None
    lost: tuple[tuple[str, str], ...] = ()
    for batch in loaded:
        lost += batch.failures
        if len(batch.labels):
            if held is not None:
                yield held
            held, lost = replace(batch, failures=lost), ()
    if held is not None:
        yield replace(held, failures=held.failures + lost)
    elif lost:
        raise ImageError(f"not one of {len(lost)} images can be decoded; the first is {': '.join(lost[0])}")
