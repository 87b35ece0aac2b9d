"""Images embedded by two networks, and the retrieval figures of vectors that a bridge has mapped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrubjay.bridges._bridge import unit
from scrubjay.bridges._fitter import Vectors
from scrubjay.evaluation.ranks import relevant_ranks

MAX_QUERIES = 1000
"""Largest number of images of a group that serve as queries."""

Figures = dict[str, float]


@dataclass(frozen=True, eq=False)
class PairedEmbeddings:
    """The same images embedded by two networks.

    Attributes:
        source: float32 (N, d), unit rows, embeddings by the network that a bridge maps from.
        target: float32 (N, d'), unit rows, embeddings by the network that it maps to.
        labels: int64 (N,).
    """

    source: Vectors
    target: Vectors
    labels: NDArray[np.int64]

    def reversed(self) -> PairedEmbeddings:
        """Source and target swapped, for a bridge in the other direction."""
        return PairedEmbeddings(self.target, self.source, self.labels)

    def where(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> PairedEmbeddings:
        """The images selected by a mask or by indices."""
        return PairedEmbeddings(self.source[rows], self.target[rows], self.labels[rows])

    def some(self, number: int) -> PairedEmbeddings:
        """At most `number` of the images, with each class in proportion to its size."""
        by_class = np.argsort(self.labels, kind="stable")
        return self if len(by_class) <= number else self.where(by_class[_evenly_spaced(len(by_class), number)])


def joined(first: PairedEmbeddings, second: PairedEmbeddings) -> PairedEmbeddings:
    """All images of both; the labels of the second are shifted, so that they share none with the first."""
    shift = int(first.labels.max(initial=-1)) + 1 - int(second.labels.min(initial=0))
    return PairedEmbeddings(
        np.concatenate([first.source, second.source]),
        np.concatenate([first.target, second.target]),
        np.concatenate([first.labels, second.labels + shift]),
    )


def retrieval_scores(mapped: Vectors, images: PairedEmbeddings, gallery: PairedEmbeddings | None = None) -> Figures:
    """Retrieval by class with mapped vectors as queries.

    Args:
        mapped: float32 (N, d') unit rows, the source vectors of `images` after a bridge.
        images: the query images.
        gallery: the images that are searched, by their target vectors; by default all other images of `images`.

    Returns:
        `map_at_r`, `recall@1`, and `cosine`, the mean cosine of an image's mapped vector to its target vector. Empty
        if no query has a relevant image.
    """
    rows = _evenly_spaced(len(mapped), min(MAX_QUERIES, len(mapped)))
    searched = images if gallery is None else gallery
    if not len(rows) or not len(searched.labels):
        return {}
    blocks = relevant_ranks(
        unit(mapped[rows]),
        images.labels[rows],
        unit(searched.target),
        searched.labels,
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
    cosine = np.einsum("ij,ij->i", mapped.astype(np.float64), images.target).mean()
    return {"map_at_r": float(np.mean(precisions)), "recall@1": float(np.mean(firsts)), "cosine": float(cosine)}


def reciprocal_ranks(mapped: Vectors, target: Vectors, gallery: Vectors) -> NDArray[np.float64]:
    """Reciprocal of the rank at which each mapped vector retrieves its own image: float64 (N,).

    Args:
        mapped: float32 (N, d') unit rows.
        target: float32 (N, d'), embeddings of the same images by the target network.
        gallery: float32 (G, d'), the vectors that are searched, including those of `target`.
    """
    scores = mapped.astype(np.float64) @ gallery.astype(np.float64).T
    own = np.einsum("ij,ij->i", mapped.astype(np.float64), target)
    better = (scores > own[:, None] + 1e-9).sum(1)  # rounding must not rank an image above itself
    reciprocal: NDArray[np.float64] = 1.0 / (1 + better)
    return reciprocal


def _evenly_spaced(length: int, number: int) -> NDArray[np.int64]:
    return np.linspace(0, length - 1, number).round().astype(np.int64)
