"""P x K batches: P classes with K images each, so that every image finds a positive and negatives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import ConfigError, DataError

Group = NDArray[np.int64]


class PKSampler:
    """Deals an epoch: every image at least once, in batches of P classes with K images each.

    The images of a class are shuffled and cut into groups of K. The last group is filled up with other images of
    the class, a class with fewer than K images with repeats: their augmentation seeds differ, so they are K views.
    A batch takes groups of P different classes, those with most groups left first, so that classes run out together.
    When fewer than P classes have groups left the batches are smaller; when only one has, its batches are filled up
    with groups of other classes, served once more. Only where there is one class alone do batches hold one class.

    Args:
        labels: of the images, any integers.
        classes_per_batch: P, at least 2.
        images_per_class: K, at least 1.
        seed: not negative.

    Raises:
        ConfigError: P, K or the seed is out of range.
        DataError: there is no image.
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
        """The batches of an epoch, a pure function of its number (not negative) and of what the sampler was made from.

        Returns:
            Batches of (index of the image, augmentation seed of 63 bits), images of one class side by side.
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
        # With fewer than K images there are no others: the class goes round again.
        filler = others[:missing] if len(others) else np.resize(order, missing)
        return list(np.concatenate([order, filler]).reshape(-1, size))

    def _deal(self, left: list[list[Group]], rng: np.random.Generator) -> list[list[Group]]:
        batches = []
        counts = np.array([len(groups) for groups in left])
        while counts.any():
            by_need = np.lexsort((rng.random(len(counts)), -counts))
            chosen = by_need[: min(self.classes_per_batch, np.count_nonzero(counts))]
            batch = [left[label].pop() for label in chosen]
            counts[chosen] -= 1
            if len(chosen) == 1:
                spare = by_need[1 : self.classes_per_batch]
                batch += [self._groups(self._members[label], rng)[0] for label in spare]
            batches.append(batch)
        return batches
