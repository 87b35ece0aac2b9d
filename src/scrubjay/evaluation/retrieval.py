"""Retrieval figures: recall@k, mAP, mAP@R and R-precision, also for the groups of a stream of sessions.

All figures are functions of the ranks r_1 < r_2 < … < r_R of a query's R relevant items:

* recall@k = [r_1 ≤ k], metric learning's Recall@K;
* average precision = (1/R) Σ_i i / r_i;
* R-precision = #{i: r_i ≤ R} / R;
* mAP@R = (1/R) Σ_{i: r_i ≤ R} i / r_i (Musgrave et al., A Metric Learning Reality Check, ECCV 2020);
* mAP@k = (1/min(R, k)) Σ_{i: r_i ≤ k} i / r_i;

each averaged over the queries that have a relevant item. Scores are cosines, ties go to the item that comes first in
the gallery, and results do not depend on the size of the blocks, as `scrubjay.evaluation.ranks` explains.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import ConfigError, DataError
from scrubjay.evaluation.ranks import Ranks, check_labels, ranks_of_scores, relevant_ranks


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Figures of one search, as fractions 0 … 1; NaN where no query has a relevant item.

    Attributes:
        recall: recall@k by k.
        map: mean average precision.
        map_at_r: mAP@R.
        r_precision: R-precision.
        map_at_k: mAP@k by k, for the requested k.
        queries: number of queries counted.
        skipped: number of queries left out because nothing in the gallery is relevant to them.
        positions: int64 (queries,), positions of the counted queries among the given ones.
        found_first: bool (queries,), whether the item at rank 1 is relevant.
        map_at_r_per_query: float64 (queries,), mAP@R of each query.
    """

    recall: dict[int, float]
    map: float
    map_at_r: float
    r_precision: float
    map_at_k: dict[int, float]
    queries: int
    skipped: int
    positions: NDArray[np.int64] = field(repr=False, compare=False)
    found_first: NDArray[np.bool_] = field(repr=False, compare=False)
    map_at_r_per_query: NDArray[np.float64] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The figures for JSON: without the arrays, k as a string, None for NaN."""
        return {
            "recall": {str(k): _json(value) for k, value in self.recall.items()},
            "map": _json(self.map),
            "map_at_r": _json(self.map_at_r),
            "r_precision": _json(self.r_precision),
            "map_at_k": {str(k): _json(value) for k, value in self.map_at_k.items()},
            "queries": self.queries,
            "skipped": self.skipped,
        }


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Figures after learning a session; a group without classes has NaN figures and 0 queries.

    Attributes:
        old: classes of earlier sessions, searched among themselves.
        new: classes of the session just learned, searched among themselves.
        seen: all classes learned so far, in one gallery.
        unseen: all other classes: those of later sessions, and those that are never learned.
        sessions: the classes of each session of the stream, searched among themselves; later sessions included.
    """

    old: RetrievalScores
    new: RetrievalScores
    seen: RetrievalScores
    unseen: RetrievalScores
    sessions: tuple[RetrievalScores, ...]


def evaluate_self(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    ks: Sequence[int] = (1, 2, 4, 8),
    *,
    map_ks: Sequence[int] = (),
    query_mask: NDArray[np.bool_] | None = None,
    gallery_mask: NDArray[np.bool_] | None = None,
    block: int | None = None,
) -> RetrievalScores:
    """Search images among themselves: each image is a query, and is left out of its own ranking.

    Args:
        vectors: float32 (N, d), unit rows.
        labels: integers (N,).
        ks: the k of recall@k.
        map_ks: the k of mAP@k.
        query_mask: bool (N,), which images are queries; default: all.
        gallery_mask: bool (N,), which images are in the gallery; default: all.
        block: number of queries in a block; default: as many as fit the memory limit.

    Returns:
        The figures; `positions` are rows of `vectors`.

    Raises:
        DataError: vectors, labels or masks do not have the required shape or type.
        ConfigError: a k is below 1.
    """
    vectors = np.asarray(vectors)
    labels = check_labels("vectors", labels, len(vectors))
    queries = np.flatnonzero(_mask("query_mask", query_mask, len(vectors)))
    items = np.flatnonzero(_mask("gallery_mask", gallery_mask, len(vectors)))
    own = np.full(len(vectors), -1, np.int64)
    own[items] = np.arange(len(items))
    if len(vectors) and not (len(queries) and len(items)):
        return _scores((), queries, ks, map_ks)
    blocks = relevant_ranks(
        vectors[queries], labels[queries], vectors[items], labels[items], own=own[queries], block=block
    )
    return _scores(blocks, queries, ks, map_ks)


def evaluate_query_gallery(
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int64],
    gallery: NDArray[np.float32],
    gallery_labels: NDArray[np.int64],
    ks: Sequence[int] = (1, 2, 4, 8),
    *,
    map_ks: Sequence[int] = (),
    block: int | None = None,
) -> RetrievalScores:
    """Search a gallery that does not contain the queries.

    Args:
        queries: float32 (Q, d), unit rows.
        query_labels: integers (Q,).
        gallery: float32 (G, d), unit rows.
        gallery_labels: integers (G,).
        ks: the k of recall@k.
        map_ks: the k of mAP@k.
        block: number of queries in a block; default: as many as fit the memory limit.

    Raises:
        DataError: vectors or labels do not have the required shape, or there are none.
        ConfigError: a k is below 1.
    """
    blocks = relevant_ranks(queries, query_labels, gallery, gallery_labels, block=block)
    return _scores(blocks, np.arange(len(queries)), ks, map_ks)


def evaluate_scores(
    scores: NDArray[np.float64],
    query_labels: NDArray[np.int64],
    gallery_labels: NDArray[np.int64],
    ks: Sequence[int] = (1, 2, 4, 8),
    *,
    own: NDArray[np.int64] | None = None,
) -> RetrievalScores:
    """Rank a gallery by scores that were computed elsewhere, such as those of a merged search over several spaces.

    Args:
        scores: float64 (Q, G), larger is better; ties go to the item that comes first.
        query_labels: integers (Q,).
        gallery_labels: integers (G,).
        ks: the k of recall@k.
        own: int64 (Q,), position in the gallery of the query itself, which is left out of its ranking; −1 for none.

    Raises:
        DataError: there is not one label for each query and item.
        ConfigError: a k is below 1.
    """
    blocks = ranks_of_scores(scores, query_labels, gallery_labels, own=own)
    return _scores(blocks, np.arange(len(scores)), ks, ())


def evaluate_groups(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    sessions: Sequence[range],
    step: int,
    ks: Sequence[int] = (1, 2, 4, 8),
    *,
    query_mask: NDArray[np.bool_] | None = None,
    gallery_mask: NDArray[np.bool_] | None = None,
) -> GroupScores:
    """Search the test images of every group of classes among themselves, after learning a session.

    Args:
        vectors: float32 (N, d), unit rows, of the test images of all sessions and of the classes that are never
            learned.
        labels: integers (N,).
        sessions: the labels of each session, in order of learning (`Session.labels`).
        step: index of the session just learned, 0 for the initial one.
        ks: the k of recall@k.
        query_mask: bool (N,), which images may be queries; default: all.
        gallery_mask: bool (N,), which images may be in the gallery; default: all.

    Raises:
        DataError: vectors, labels or masks do not have the required shape or type, or there is no session `step`.
        ConfigError: a k is below 1.
    """
    if not 0 <= step < len(sessions):
        raise DataError(f"step {step} of a stream of {len(sessions)} sessions: the steps are 0 to {len(sessions) - 1}.")
    labels = check_labels("vectors", labels, len(vectors))
    may_query = _mask("query_mask", query_mask, len(vectors))
    may_be_item = _mask("gallery_mask", gallery_mask, len(vectors))
    members = [np.isin(labels, session) for session in sessions]
    old = np.isin(labels, [label for session in sessions[:step] for label in session])
    seen = old | members[step]

    def among(group: NDArray[np.bool_]) -> RetrievalScores:
        return evaluate_self(vectors, labels, ks, query_mask=group & may_query, gallery_mask=group & may_be_item)

    by_session = tuple(map(among, members))
    return GroupScores(old=among(old), new=by_session[step], seen=among(seen), unseen=among(~seen), sessions=by_session)


def _mask(name: str, mask: NDArray[np.bool_] | None, length: int) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(length, dtype=bool)
    mask = np.asarray(mask)
    if mask.shape != (length,) or mask.dtype != np.bool_:
        raise DataError(f"{name} is {mask.dtype} {mask.shape}; needed is bool ({length},), one for each vector.")
    return mask


def _scores(
    blocks: Iterable[Ranks], queries: NDArray[np.int64], ks: Sequence[int], map_ks: Sequence[int]
) -> RetrievalScores:
    """Means over the queries of all blocks; `queries` has the position of each query that the blocks count from 0."""
    if any(k < 1 for k in (*ks, *map_ks)):
        raise ConfigError(f"recall at {list(ks)}, mAP at {list(map_ks)}: every k has to be 1 or more.")
    parts = [(queries[block.queries], _figures(block, map_ks)) for block in blocks]
    positions = np.concatenate([queries[:0], *(counted for counted, _ in parts)])
    first, precision, at_r, r_precision, *at_k = np.hstack(
        [np.empty((4 + len(map_ks), 0)), *(figures for _, figures in parts)]
    )
    return RetrievalScores(
        recall={k: _mean(first <= k) for k in ks},
        map=_mean(precision),
        map_at_r=_mean(at_r),
        r_precision=_mean(r_precision),
        map_at_k={k: _mean(each) for k, each in zip(map_ks, at_k, strict=True)},
        queries=len(positions),
        skipped=len(queries) - len(positions),
        positions=positions,
        found_first=first == 1,
        map_at_r_per_query=at_r,
    )


def _figures(block: Ranks, map_ks: Sequence[int]) -> NDArray[np.float64]:
    """One column for every query: first rank, average precision, mAP@R, R-precision, mAP@k for each k."""
    counts, ranks = block.counts, block.ranks
    starts = np.cumsum(counts) - counts
    i = np.arange(1, len(ranks) + 1) - np.repeat(starts, counts)
    within = ranks <= np.repeat(counts, counts)
    precision = i / ranks
    return np.stack(
        [
            ranks[starts],
            np.add.reduceat(precision, starts) / counts,
            np.add.reduceat(precision * within, starts) / counts,
            np.add.reduceat(within, starts, dtype=np.float64) / counts,
            *(np.add.reduceat(precision * (ranks <= k), starts) / np.minimum(counts, k) for k in map_ks),
        ]
    )


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else math.nan


def _json(value: float) -> float | None:
    return None if math.isnan(value) else value
