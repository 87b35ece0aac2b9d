"""Every generation of a run against the galleries of all older ones: plain, over bridges, and re-indexed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrubjay.bridges import Bridge, Choice, PairedEmbeddings, choose, compose
from scrubjay.data.stream import Stream
from scrubjay.evaluation.compatibility import compatibility_summary, negative_flip_rate
from scrubjay.evaluation.retrieval import RetrievalScores, evaluate_query_gallery
from scrubjay.experiments.measurement import (
    KS,
    METRICS,
    Matrix,
    Measured,
    finite,
    gallery_samples,
    rows_where,
    score,
    test_flags,
)
from scrubjay.types import Embeddings

Pair = tuple[int, int]
"""A generation t that embeds queries, and a generation k ≤ t whose gallery they search."""


@dataclass(frozen=True, slots=True)
class PairSearch:
    """One search of one generation's queries in one gallery.

    Attributes:
        scores: figures of the search.
        images: int64 (queries,), index of the test image of each counted query.
    """

    scores: RetrievalScores
    images: NDArray[np.int64]


def figures(measured: Sequence[Measured], stream: Stream, bridges: Mapping[int, Bridge]) -> dict[str, Any]:
    """All figures across generations, under the keys of `result.json`.

    Args:
        measured: embeddings by every generation, oldest first.
        stream: what was learned.
        bridges: by generation t ≥ 1, the map from its space to that of generation t − 1; some may be missing.
    """
    size = len(measured)
    plain = search_pairs(measured, stream)
    reindexed = search_pairs(measured, stream, gallery_of=reindexed_gallery) | _own(plain)
    bridged = search_pairs(measured, stream, bridges=bridges) | _own(plain)
    compatibility, over_bridges = matrices(plain, size), matrices(bridged, size)
    return {
        "compatibility": compatibility,
        "bridged": over_bridges,
        "reindex": matrices(reindexed, size),
        "backward_compatibility": {
            "plain": {metric: compatibility_summary(matrix) for metric, matrix in compatibility.items()},
            "bridged": {metric: compatibility_summary(matrix) for metric, matrix in over_bridges.items()},
        },
        "negative_flips": {
            "old_gallery": flips(plain, plain, size),
            "bridged": flips(plain, bridged, size),
            "reindexed": flips(plain, reindexed, size),
        },
    }


def fit_bridge(measured: Measured, parent_view: Embeddings, stream: Stream, step: int) -> Choice:
    """Fit and choose the bridge from the space of a generation to that of its parent, as a catalogue does.

    Only the session's own training images are used: no old image, no test image and no item of a gallery.

    Args:
        measured: embeddings by the generation; its gallery includes the session's training images.
        parent_view: the same session's training images, embedded by the parent.
        stream: what was learned.
        step: index of the session that the generation learned, at least 1.

    Raises:
        DataError: no training image of the session could be decoded by both.
    """
    first = len(gallery_samples(stream, step - 1))
    gallery = measured.gallery
    _, own_rows, parent_rows = np.intersect1d(gallery.indices - first, parent_view.indices, return_indices=True)
    pairs = PairedEmbeddings(
        gallery.vectors[own_rows], parent_view.vectors[parent_rows], gallery.labels[own_rows].astype(np.int64)
    )
    return choose(pairs, pairs.where(np.zeros(len(pairs.labels), dtype=bool)))


def search_pairs(
    measured: Sequence[Measured],
    stream: Stream,
    *,
    gallery_of: Callable[[Measured, Measured], Embeddings] | None = None,
    bridges: Mapping[int, Bridge] | None = None,
) -> dict[Pair, PairSearch]:
    """Search the gallery of every generation k with the queries of every generation t ≥ k.

    The gallery holds the training images of the classes that generation k has learned. The queries are the test
    images of these classes that may be queries.

    Args:
        measured: embeddings by every generation, oldest first.
        stream: what was learned.
        gallery_of: from generations t and k to the gallery that is searched; default: that of k as k embedded it.
        bridges: see `figures`; where given, queries are carried over them into the space of k, and pairs that no
            bridges connect are left out.

    Returns:
        The searches by (t, k); pairs without a query or without a gallery item are left out. With `gallery_of` or
        `bridges` these are the pairs k < t: in its own gallery they change nothing for a generation.
    """
    plain = gallery_of is None and bridges is None
    searches: dict[Pair, PairSearch] = {}
    for t, newer in enumerate(measured):
        may_query, _ = test_flags(newer.test, stream)
        for k, older in enumerate(measured[: t + plain]):
            rows = np.flatnonzero(may_query & (newer.test.labels < stream.sessions[k].labels.stop))
            gallery = older.gallery if gallery_of is None else gallery_of(newer, older)
            vectors = newer.test.vectors[rows]
            if bridges is not None:
                bridge = bridge_between(bridges, t, k)
                if bridge is None:
                    continue
                vectors = bridge(vectors)
            if not len(rows) or not len(gallery.labels):
                continue
            scores = evaluate_query_gallery(vectors, newer.test.labels[rows], gallery.vectors, gallery.labels, KS)
            searches[t, k] = PairSearch(scores, newer.test.indices[rows[scores.positions]])
    return searches


def bridge_between(bridges: Mapping[int, Bridge], t: int, k: int) -> Bridge | None:
    """The map from the space of generation t to that of k ≤ t, composed generation by generation.

    Args:
        bridges: by generation, the map to the space of the generation before it.
        t: the generation that embedded the vectors.
        k: the generation whose space they are carried to.

    Returns:
        The bridge, or None where one of its parts is missing.
    """
    line = [bridges.get(number) for number in range(t, k, -1)]
    known = [bridge for bridge in line if bridge is not None]
    return compose(*known) if len(known) == len(line) else None


def reindexed_gallery(newer: Measured, older: Measured) -> Embeddings:
    """The gallery of the older generation, re-embedded by the newer one."""
    return rows_where(newer.gallery, np.isin(newer.gallery.labels, older.gallery.labels))


def matrices(searches: Mapping[Pair, PairSearch], size: int) -> dict[str, Matrix]:
    """The scores of searches as (T, T) matrices by metric: row t, column k; None for what was not searched."""
    by_metric: dict[str, Matrix] = {metric: [[None] * size for _ in range(size)] for metric in METRICS}
    for (t, k), search in searches.items():
        for metric in METRICS:
            by_metric[metric][t][k] = score(search.scores, metric)
    return by_metric


def flips(before: Mapping[Pair, PairSearch], after: Mapping[Pair, PairSearch], size: int) -> Matrix:
    """Negative flip rates (T, T): row t, column k < t; None elsewhere, and for what was not searched.

    Entry [t][k] is the share of generation k's queries that found their class at rank 1 of its own gallery, and with
    generation t no longer do. [t][t − 1] is the rate of one step.

    Args:
        before: searches of which (k, k) count.
        after: searches of which (t, k) count.
        size: number of generations T.
    """
    rates: Matrix = [[None] * size for _ in range(size)]
    for (t, k), search in after.items():
        if k < t and (k, k) in before:
            own = before[k, k]
            _, then, now = np.intersect1d(own.images, search.images, return_indices=True)
            rate = negative_flip_rate(own.scores.found_first[then], search.scores.found_first[now])
            rates[t][k] = finite(rate)
    return rates


def _own(searches: Mapping[Pair, PairSearch]) -> dict[Pair, PairSearch]:
    """The searches of every generation in its own gallery."""
    return {pair: search for pair, search in searches.items() if pair[0] == pair[1]}
