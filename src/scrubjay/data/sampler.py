"""P x K batches: P classes with K images each, so that every image has positives and negatives in its batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import ConfigError, DataError

Group = NDArray[np.int64]


class PKSampler:
    """Plans epochs: every image at least once, in batches of P classes with K images each.

    The images of a class are shuffled and cut into groups of K. The last group is completed with other images of the
    class, and a class with fewer than K images with repeats, whose augmentation seeds differ. A batch takes groups of
    P different classes, those with most remaining groups first, so that classes run out at about the same time. When
    fewer than P classes have groups left, batches are smaller; when only one has, its batches are completed with
    further groups of other classes. Batches hold a single class only if there is no other.

    Args:
        labels: labels of the images, any integers.
        classes_per_batch: P, at least 2.
        images_per_class: K, at least 1.
        seed: seed of the shuffles, not negative.

    Raises:
        ConfigError: P, K or the seed is out of range.
        DataError: `labels` is empty.
    """

    def __init__(self, labels: Sequence[int], classes_per_batch: int, images_per_class: int, seed: int) -> None:
        if classes_per_batch < 2 or images_per_class < 1 or seed < 0:
            raise ConfigError(
                f"classes_per_batch = {classes_per_batch}, images_per_class = {images_per_class}, seed = {seed}: "
                "take at least 2, 1 and 0."
            )
        if not len(labels):
            raise DataError("there is no image to learn from; add some.")
        self.classes_per_batch = classes_per_batch
        self.images_per_class = images_per_class
        self.seed = seed
        array = np.asarray(labels, dtype=np.int64)
        self._members = [np.flatnonzero(array == label) for label in np.unique(array)]

    def epoch(self, number: int) -> list[list[tuple[int, int]]]:
        """The batches of an epoch: a pure function of its number (not negative) and the sampler's arguments.

        Returns:
            Batches of (index of the image, augmentation seed of 63 bits); the images of a class are adjacent.
        """
        rng = np.random.default_rng([self.seed, number])
        batches = self._deal([self._groups(members, rng) for members in self._members], rng)
        return [
            list(zip(indices.tolist(), rng.integers(0, 2**63 - 1, len(indices)).tolist(), strict=True))
            for indices in (np.concatenate(groups) for groups in batches)
        ]

    def _groups(self, members: Group, rng: np.random.Generator) -> list[Group]:
        size = self.images_per_class
        order = rng.permutation(members)
        missing = -len(order) % size
        others = rng.permutation(order[: len(order) - len(order) % size])
        # A class with fewer than K images has no others: its images are repeated.
        filler = others[:missing] if len(others) else np.resize(order, missing)
        return list(np.concatenate([order, filler]).reshape(-1, size))

    def _deal(self, remaining: list[list[Group]], rng: np.random.Generator) -> list[list[Group]]:
        batches = []
        counts = np.array([len(groups) for groups in remaining])
        while counts.any():
            by_count = np.lexsort((rng.random(len(counts)), -counts))
            chosen = by_count[: min(self.classes_per_batch, np.count_nonzero(counts))]
            batch = [remaining[label].pop() for label in chosen]
            counts[chosen] -= 1
            if len(chosen) == 1:
                others = by_count[1 : self.classes_per_batch]
                batch += [self._groups(self._members[label], rng)[0] for label in others]
            batches.append(batch)
        return batches
