"""Finds images that are nearly the same: one is the other re-encoded, resized, brightened or cropped a little.

Candidates are the nearest neighbours by embedding; they are then compared as small grey images. Embeddings alone do not
tell copies from different images of one object, since they are trained to place both close together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scrubjay.data.images import decode
from scrubjay.errors import ImageError
from scrubjay.types import Sample

SIDE = 16
"""Side of the grey images that are compared, in pixels."""
SAME = 0.94
"""Least correlation of two such images that counts as nearly the same. Of 399 photographs of 20 classes of groceries,
no two different ones reach it. Copies always reach it where they were re-encoded, resized, changed in brightness,
contrast or colour, or trimmed by 2 % at every side; in 96 % of the cases if they were turned by 2°, and in 12 % if they
were trimmed by 4 % (`benchmarks/studies/folder_check.py`)."""
CANDIDATES = 4
"""Number of nearest neighbours of an image, by embedding, that are compared with it."""
_BLOCK = 1024


def thumbnail(sample: Sample) -> NDArray[np.float32] | None:
    """The image as a small grey one, float32 (SIDE²,), of mean 0 and norm 1; None where it has no contrast.

    Brightness and contrast cancel, and the aspect ratio is ignored.

    Raises:
        ImageError: it cannot be decoded.
    """
    image = decode(sample.path, box=sample.box, short_side=4 * SIDE).convert("L")
    values = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32).ravel()
    values = values - values.mean()
    norm = float(np.linalg.norm(values))
    return values / norm if norm > SIDE else None  # a standard deviation of less than one grey level


def neighbours(queries: NDArray[np.float32], vectors: NDArray[np.float32], number: int) -> NDArray[np.intp]:
    """Rows of the nearest vectors of each query, intp (Q, min(number, N)), in no particular order; by blocks.

    Args:
        queries: float32 (Q, d), unit rows.
        vectors: float32 (N, d), unit rows.
        number: number of neighbours.
    """
    number = min(number, len(vectors))
    found = np.empty((len(queries), number), dtype=np.intp)
    for start in range(0, len(queries) if number else 0, _BLOCK):
        cosines = queries[start : start + _BLOCK] @ vectors.T
        found[start : start + _BLOCK] = np.argpartition(-cosines, number - 1, axis=1)[:, :number]
    return found


class Thumbnails:
    """Small grey images, computed once each."""

    def __init__(self) -> None:
        self._known: dict[Sample, NDArray[np.float32] | None] = {}

    def same(self, one: Sample, other: Sample) -> bool:
        """Whether two images are nearly the same. An image that cannot be decoded is like no other."""
        first, second = self._of(one), self._of(other)
        return first is not None and second is not None and float(first @ second) >= SAME

    def _of(self, sample: Sample) -> NDArray[np.float32] | None:
        if sample not in self._known:
            try:
                self._known[sample] = thumbnail(sample)
            except ImageError:
                self._known[sample] = None
        return self._known[sample]


def groups(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The connected components of pairs of numbers, each in ascending order.

    >>> groups([(0, 1), (4, 5), (1, 2)])
    [[0, 1, 2], [4, 5]]
    """
    of: dict[int, list[int]] = {}
    for one, other in pairs:
        first, second = of.setdefault(one, [one]), of.setdefault(other, [other])
        if first is not second:
            first += second
            of |= dict.fromkeys(second, first)
    return sorted({id(group): sorted(group) for group in of.values()}.values())


def near_duplicates(samples: Sequence[Sample], vectors: NDArray[np.float32], thumbnails: Thumbnails) -> list[list[int]]:
    """Groups of images that are nearly the same, as rows of N images with unit vectors (N, d)."""
    candidates = {
        (min(row, other), max(row, other))
        for row, near in enumerate(neighbours(vectors, vectors, 1 + CANDIDATES).tolist())
        for other in near
        if row != other
    }
    return groups(pair for pair in sorted(candidates) if thumbnails.same(samples[pair[0]], samples[pair[1]]))


def near_items(
    samples: Sequence[Sample],
    vectors: NDArray[np.float32],
    items: Mapping[str, Sample],
    item_vectors: NDArray[np.float32],
    thumbnails: Thumbnails,
) -> dict[int, list[str]]:
    """For each image that is nearly the same as an item, the ids of such items.

    Args:
        samples: N images.
        vectors: float32 (N, d), unit rows.
        items: image of each of M items, by id.
        item_vectors: float32 (M, d), in the same order.
        thumbnails: small grey images.
    """
    ids = list(items)
    found: dict[int, list[str]] = {}
    for row, near in enumerate(neighbours(vectors, item_vectors, CANDIDATES).tolist()):
        same = [ids[other] for other in sorted(near) if thumbnails.same(samples[row], items[ids[other]])]
        if same:
            found[row] = same
    return found
