"""Images that two networks have seen, and what carried vectors find among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrubjay.bridges._bridge import unit
from scrubjay.bridges._fitter import Vectors
from scrubjay.evaluation.ranks import relevant_ranks

ASKED = 1000
"""Images of a group that are searched for, at most."""

Figures = dict[str, float]


@dataclass(frozen=True, eq=False)
class Judged:
    """The same images seen by two networks.

    Attributes:
        source: float32 (N, d), unit rows.
        target: float32 (N, d'), unit rows.
        labels: int64 (N,).
    """

    source: Vectors
    target: Vectors
    labels: NDArray[np.int64]

    def reversed(self) -> Judged:
        """The way back: source and target swapped."""
        return Judged(self.target, self.source, self.labels)

    def where(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Judged:
        """Some of the images."""
        return Judged(self.source[rows], self.target[rows], self.labels[rows])

    def some(self, number: int) -> Judged:
        """At most so many of them, as many of each class as its share."""
        by_class = np.argsort(self.labels, kind="stable")
        return self if len(by_class) <= number else self.where(by_class[_spread(len(by_class), number)])


def joined(one: Judged, other: Judged) -> Judged:
    """Both; labels of the second are not those of the first."""
    first = int(one.labels.max(initial=-1)) + 1 - int(other.labels.min(initial=0))
    return Judged(
        np.concatenate([one.source, other.source]),
        np.concatenate([one.target, other.target]),
        np.concatenate([one.labels, other.labels + first]),
    )


def found(carried: Vectors, asked: Judged, gallery: Judged | None = None) -> Figures:
    """What carried vectors find by class.

    Args:
        carried: float32 (N, d') unit rows, where a bridge puts the images.
        asked: the images.
        gallery: where they are searched, as the target network sees it; default: among all others of `asked`.

    Returns:
        `map_at_r`, `recall@1`, and `cosine`, the mean to where the target network sees the image; nothing where no
        image has another of its class.
    """
    rows = _spread(len(carried), min(ASKED, len(carried)))
    others = asked if gallery is None else gallery
    if not len(rows) or not len(others.labels):
        return {}
    blocks = relevant_ranks(
        unit(carried[rows]),
        asked.labels[rows],
        unit(others.target),
        others.labels,
        own=rows if gallery is None else None,
    )
    precisions, firsts = [], []
    for block in blocks:
        for ranks, relevant in zip(np.split(block.ranks, np.cumsum(block.counts)[:-1]), block.counts, strict=True):
            within = ranks[ranks <= relevant]
            precisions.append((np.arange(1, len(within) + 1) / within).sum() / relevant)
            firsts.append(ranks[0] == 1)
    if not precisions:
        return {}
    cosine = np.einsum("ij,ij->i", carried.astype(np.float64), asked.target).mean()
    return {"map_at_r": float(np.mean(precisions)), "recall@1": float(np.mean(firsts)), "cosine": float(cosine)}


def reciprocal_ranks(carried: Vectors, target: Vectors, gallery: Vectors) -> NDArray[np.float64]:
    """1 / the rank at which each carried vector finds its own image: float64 (N,).

    Args:
        carried: float32 (N, d') unit rows.
        target: float32 (N, d'), where the target network sees the images.
        gallery: float32 (G, d'), the vectors that are searched, those of `target` among them.
    """
    scores = carried.astype(np.float64) @ gallery.astype(np.float64).T
    own = np.einsum("ij,ij->i", carried.astype(np.float64), target)
    better = (scores > own[:, None] + 1e-9).sum(1)  # an image is not better than itself by rounding
    ranks: NDArray[np.float64] = 1.0 / (1 + better)
    return ranks


def _spread(length: int, number: int) -> NDArray[np.int64]:
    return np.linspace(0, length - 1, number).round().astype(np.int64)
