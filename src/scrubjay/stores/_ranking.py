"""Re-ranking of a server's results by exact cosines, so that every store returns the same order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrubjay.stores import Item
from scrubjay.stores._exact import nearest

SPARE = 64  # rows requested beyond the k-th, to see whether all rows that tie with it were returned


def settled(scores: Sequence[float], k: int, asked: int, dim: int) -> bool:
    """Whether the k best rows are certainly among those returned, in spite of the server's rounding.

    The error of its float32 products is at most d·ε/2 each, as explained in `scrubjay.stores._exact.nearest`.

    Args:
        scores: the server's scores, best first.
        k: at least 1.
        asked: number of rows that were requested.
        dim: dimension of the vectors.
    """
    margin = 2 * dim * float(np.finfo(np.float32).eps)
    return len(scores) < asked or scores[-1] < scores[k - 1] - margin


def ranked(items: Sequence[Item], vectors: ArrayLike, query: NDArray[np.float32], k: int) -> list[tuple[Item, float]]:
    """The k best items with their cosines; ties in id order.

    Args:
        items: N items in any order.
        vectors: float32 (N, d), their vectors.
        query: float32 (d,).
        k: at least 1.
    """
    order = sorted(range(len(items)), key=lambda row: items[row].id.encode())
    array = np.asarray(vectors, np.float32).reshape(len(items), len(query))
    ((best, scores),) = nearest(array[order], query[None], k)
    return [(items[order[row]], score) for row, score in zip(best, scores.tolist(), strict=True)]
