"""Exact ranks of the relevant items in each query's ranking, and its top k, computed in blocks of queries.

Scores are the exact cosines of `scrubjay.evaluation.exact_scores`, larger is better, and ties go to the item that comes
first in the gallery: results are bit for bit the same for any block size, number of threads, linear algebra library or
machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from scrubjay.errors import ConfigError, DataError
from scrubjay.evaluation.coded_ranks import CodedGallery
from scrubjay.evaluation.exact_scores import check_vectors, exact_product

_BLOCK = 256
_BLOCK_BYTES = 64 * 2**20
_THREADS = min(os.cpu_count() or 1, 16)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """Ranks of the relevant items of one block of queries.

    Attributes:
        queries: int64 (B,), positions of the queries, ascending; queries without a relevant item are left out.
        counts: int64 (B,), number of relevant items R of each query, at least 1.
        ranks: int64 (sum of counts,), the ranks of each query's relevant items, 1-based and ascending, one query after
            the other.
    """

    queries: NDArray[np.int64]
    counts: NDArray[np.int64]
    ranks: NDArray[np.int64]


def check_labels(name: str, labels: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Check labels for `length` vectors, and return them as int64 (length,).

    Raises:
        DataError: they are not integers, or there is not one for each vector.
    """
    labels = np.asarray(labels)
    if labels.shape != (length,):
        raise DataError(f"{name}: labels of shape {labels.shape} for {length} vectors; needed is one for each.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{name}: labels of type {labels.dtype}; needed are integers.")
    return labels.astype(np.int64)


def relevant_ranks(
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int64],
    gallery: NDArray[np.float32],
    gallery_labels: NDArray[np.int64],
    *,
    own: NDArray[np.int64] | None = None,
    block: int | None = None,
) -> Iterator[Ranks]:
    """Rank the gallery for every query and yield the ranks of the items with the query's label.

    Args:
        queries: float32 (Q, d), unit rows.
        query_labels: integers (Q,).
        gallery: float32 (G, d), unit rows.
        gallery_labels: integers (G,).
        own: int64 (Q,), position in the gallery of the query itself, which is left out of its ranking; −1 for none.
        block: number of queries in a block; each thread holds one block, 2 G bytes for each query; default: 256, or
            what fits 64 MiB.

    Raises:
        DataError: vectors are not finite unit rows (N, d), or there is not one label for each.
    """
    queries, gallery = _comparable(queries, gallery)
    query_labels = check_labels("queries", query_labels, len(queries))
    gallery_labels = check_labels("gallery", gallery_labels, len(gallery))
    own = np.full(len(queries), -1, np.int64) if own is None else own
    by_label = np.argsort(gallery_labels, kind="stable")
    first, last = (np.searchsorted(gallery_labels[by_label], query_labels, side) for side in ("left", "right"))
    counts = last - first - ((own >= 0) & (gallery_labels[own] == query_labels))

    coded = CodedGallery(gallery)

    def ranks(part: NDArray[np.int64], codes: NDArray[np.int16]) -> Ranks:
        coded.codes(queries[part], own[part], codes)
        found = []
        for query, row in zip(part, codes, strict=True):
            items = by_label[first[query] : last[query]]
            items = items[items != own[query]]
            by_codes = coded.ranks(queries[query], row, items)
            found.append(_exact_ranks(queries[query], gallery, own[query], items) if by_codes is None else by_codes)
        return Ranks(part, counts[part], np.concatenate(found))

    yield from _in_blocks(ranks, np.flatnonzero(counts), len(gallery), np.dtype(np.int16), block)


def ranks_of_scores(
    scores: NDArray[np.float64],
    query_labels: NDArray[np.int64],
    gallery_labels: NDArray[np.int64],
    *,
    own: NDArray[np.int64] | None = None,
) -> Iterator[Ranks]:
    """As `relevant_ranks`, for scores that are not cosines in one space, such as those of a merged search.

    Args:
        scores: float64 (Q, G), larger is better.
        query_labels: integers (Q,).
        gallery_labels: integers (G,).
        own: int64 (Q,), position in the gallery of the query itself, which is left out of its ranking; −1 for none.

    Raises:
        DataError: there is not one label for each query and item.
    """
    query_labels = check_labels("queries", query_labels, scores.shape[0])
    gallery_labels = check_labels("gallery", gallery_labels, scores.shape[1])
    for query, row in enumerate(scores):
        relevant = gallery_labels == query_labels[query]
        if own is not None and own[query] >= 0:
            relevant[own[query]] = False
        items = np.flatnonzero(relevant)
        if len(items):
            others = row if own is None or own[query] < 0 else np.where(np.arange(len(row)) == own[query], -np.inf, row)
            yield Ranks(np.array([query]), np.array([len(items)]), _ranks(others, items))


def top_k(
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    *,
    exclude_self: bool = False,
    block: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k nearest items of the gallery for every query, best first, ties by gallery order.

    Args:
        queries: float32 (Q, d), unit rows.
        gallery: float32 (G, d), unit rows.
        k: number of items for each query; where the gallery holds fewer, all of them are returned.
        exclude_self: query i is item i of the gallery and is left out of its own answer.
        block: number of queries in a block; each thread holds one block, 8 G bytes for each query; default: what fits
            64 MiB.

    Returns:
        Cosines, float32 (Q, min(k, items)), and positions in the gallery, int64 of the same shape.

    Raises:
        ConfigError: k is below 1.
        DataError: vectors are not finite unit rows (N, d), or with `exclude_self` the numbers of queries and items
            differ.
    """
    if k < 1:
        raise ConfigError(f"k = {k}: ask for at least 1 item.")
    queries, gallery = _comparable(queries, gallery)
    if exclude_self and len(queries) != len(gallery):
        raise DataError(
            f"exclude_self needs the queries to be the gallery: {len(queries)} queries, {len(gallery)} items."
        )
    own = np.arange(len(queries)) if exclude_self else np.full(len(queries), -1)
    k = min(k, len(gallery) - exclude_self)
    scores = np.empty((len(queries), k), np.float32)
    indices = np.empty((len(queries), k), np.int64)

    def top(part: NDArray[np.int64], rows: NDArray[np.float64]) -> None:
        exact_product(queries[part], gallery, rows)
        inside = np.flatnonzero(own[part] >= 0)
        rows[inside, own[part[inside]]] = -np.inf
        for query, row in zip(part, rows, strict=True):
            lowest = np.partition(row, -k)[-k]
            candidates = np.flatnonzero(row >= lowest)
            indices[query] = candidates[np.argsort(-row[candidates], kind="stable")[:k]]
            scores[query] = row[indices[query]]

    if k:
        for _ in _in_blocks(top, np.arange(len(queries)), len(gallery), np.dtype(np.float64), block):
            pass
    return scores, indices


def _comparable(
    queries: NDArray[np.float32], gallery: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    queries, gallery = check_vectors("queries", queries), check_vectors("gallery", gallery)
    if queries.shape[1] != gallery.shape[1]:
        raise DataError(
            f"queries have {queries.shape[1]} dimensions and the gallery {gallery.shape[1]}: embed both with the same "
            "network."
        )
    return queries, gallery


def _in_blocks(
    work: Callable[[NDArray[np.int64], NDArray[Any]], T],
    wanted: NDArray[np.int64],
    width: int,
    dtype: np.dtype[Any],
    block: int | None,
) -> Iterator[T]:
    """Call `work(part, buffer)` for blocks of the wanted queries, with a buffer (len(part), width) of a type."""
    if block is None:
        block = max(1, min(_BLOCK, _BLOCK_BYTES // (dtype.itemsize * _THREADS * width)))
    if block < 1:
        raise ConfigError(f"block = {block}: a block holds at least 1 query.")

    # One block and one matrix product per thread is faster than a threaded product: threads never wait for one another.
    blas = ThreadpoolController()
    parts = [wanted[start : start + block] for start in range(0, len(wanted), block)]
    buffers = [np.empty((min(block, len(wanted)), width), dtype) for _ in range(_THREADS)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(parts), _THREADS):
            with blas.limit(limits=1, user_api="blas"):
                running = [
                    pool.submit(work, part, buffer[: len(part)])
                    for part, buffer in zip(parts[first : first + _THREADS], buffers, strict=False)
                ]
                finished = [each.result() for each in running]
            yield from finished


def _exact_ranks(
    query: NDArray[np.float32], gallery: NDArray[np.float32], own: int, items: NDArray[np.int64]
) -> NDArray[np.int64]:
    scores = exact_product(query[None], gallery, np.empty((1, len(gallery))))[0]
    if own >= 0:
        scores[own] = -np.inf
    return _ranks(scores, items)


def _ranks(scores: NDArray[np.float64], items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranks of some items, ascending: 1 + number of better scores + number of equal scores of earlier items.

    Counting the better scores is enough where no score equals that of one of the items. Rounding keeps the order, so
    float32, which sorts twice as fast, decides most rows.
    """
    for precision in (np.float32, np.float64):
        rounded = scores.astype(precision, copy=False)
        relevant, ordered = np.sort(rounded[items]), np.sort(rounded)
        not_better = np.searchsorted(ordered, relevant, "right")
        if np.array_equal(not_better, np.searchsorted(ordered, relevant, "left") + 1):
            return (len(scores) + 1 - not_better[::-1]).astype(np.int64)
    ranks = np.empty(len(scores), np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return np.sort(ranks[items])
