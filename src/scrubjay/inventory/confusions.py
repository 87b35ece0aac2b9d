"""Pairs of classes that are found for each other: an item's nearest other item is of the other class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrubjay.generations.bridge_paths import space_of
from scrubjay.workspace.workspace import Workspace

PAIRS = 6
"""Number of pairs of items that are shown of each pair of classes."""
MOST = 50_000
"""Number of items of a larger gallery that are compared. Ids are hashes, so the first ones are a random sample."""
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class ClassConfusion:
    """Two classes that are found for each other.

    Attributes:
        classes: their names, in alphabetical order.
        share: share of their items whose nearest other item is of the other class.
        pairs: up to `PAIRS` pairs of items that cause it, the most similar first: an item, and the item of the other
            class that is nearest to it.
    """

    classes: tuple[str, str]
    share: float
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Confusions:
    """The most confused pairs of classes.

    Attributes:
        found: the pairs, that with the largest share first.
        items: number of items that were compared.
    """

    found: tuple[ClassConfusion, ...]
    items: int


def class_confusions(workspace: Workspace, limit: int) -> Confusions:
    """Compare all labelled items that have a vector of the generation that answers; see `confused`."""
    store = workspace.gallery.store
    space = space_of(workspace.serving_generation())
    if space not in store.spaces():
        return Confusions((), 0)
    labels = dict(zip(*store.labels(), strict=True))
    ids, vectors = store.vectors(space.id)
    rows = [row for row, name in enumerate(ids) if labels.get(name) is not None][:MOST]
    names = [ids[row] for row in rows]
    return Confusions(confused(names, [str(labels[name]) for name in names], vectors[rows])[:limit], len(rows))


def confused(ids: Sequence[str], labels: Sequence[str], vectors: NDArray[np.float32]) -> tuple[ClassConfusion, ...]:
    """All pairs of classes of which at least one item has its nearest other item in the other class.

    Args:
        ids: N of them.
        labels: label of each.
        vectors: float32 (N, d), unit rows.
    """
    if len(ids) < 2:
        return ()
    nearest, cosines = nearest_other(vectors)
    sizes = Counter(labels)
    caused: dict[tuple[str, str], list[tuple[float, int, int]]] = {}
    for row, (other, cosine) in enumerate(zip(nearest.tolist(), cosines.tolist(), strict=True)):
        if labels[row] != labels[other]:
            first, second = sorted((labels[row], labels[other]))
            caused.setdefault((first, second), []).append((-cosine, row, other))
    found = [
        ClassConfusion(
            pair,
            len(rows) / (sizes[pair[0]] + sizes[pair[1]]),
            tuple((ids[row], ids[other]) for _, row, other in sorted(rows)[:PAIRS]),
        )
        for pair, rows in caused.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.share, each.classes)))


def nearest_other(vectors: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For each of N ≥ 2 unit vectors (N, d) the row of the most similar other one, and the cosine; by blocks."""
    nearest = np.empty(len(vectors), dtype=np.intp)
    best = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ vectors.T
        own = np.arange(len(cosines))
        cosines[own, start + own] = -np.inf
        nearest[start : start + _BLOCK] = cosines.argmax(axis=1)
        best[start : start + _BLOCK] = cosines.max(axis=1)
    return nearest, best
