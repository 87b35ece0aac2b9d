"""Exact nearest neighbours by a full scan; the order of results does not depend on the batching of queries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_SCORES_AT_ONCE = 1 << 24  # 64 MB of float32


def nearest(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """For each query the rows of its k nearest vectors and their cosines, best first; ties in order of rows.

    A matrix product in float32 finds the candidates, whose scores are computed again in float64, each row by itself,
    because the float32 product of the same pair may differ in its last bits with the shape of the matrices. The
    candidates are all rows within the rounding error of the k-th: the error of a float32 dot product of unit vectors
    is at most d·ε/2 (Higham, Accuracy and Stability of Numerical Algorithms, 2002, §3.1), that of a difference of two
    d·ε; twice that allows for norms that are not exactly one.

    Args:
        vectors: float32 (N, d), unit rows.
        queries: float32 (Q, d), unit rows.
        k: at least 1; min(k, N) rows are returned.
    """
    count = min(k, len(vectors))
    margin = 2 * queries.shape[1] * float(np.finfo(np.float32).eps)
    block = max(1, _SCORES_AT_ONCE // max(1, len(vectors)))
    for start in range(0, len(queries), block):
        chunk = queries[start : start + block]
        for query, coarse in zip(chunk, chunk @ vectors.T, strict=True):
            if count == 0:
                yield np.empty(0, np.intp), np.empty(0)
                continue
            threshold = np.partition(coarse, -count)[-count]
            rows = np.flatnonzero(coarse >= threshold - margin)
            scores = np.vecdot(vectors[rows].astype(np.float64), query.astype(np.float64))
            order = np.lexsort((rows, -scores))[:count]
            yield rows[order], np.clip(scores[order], -1, 1)
