"""What a server has found, ranked again by exact cosines, so that every store answers in the same order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrubjay.stores import Item
from scrubjay.stores._exact import nearest

SPARE = 64  # rows to ask for beyond the k-th: they tell whether all that tie with it are there


def settled(scores: Sequence[float], k: int, asked: int, dim: int) -> bool:
    """Whether the k best are among the rows found, whatever the server's rounding did.

    Its float32 products are off by d·ε/2 each, as explained at `scrubjay.stores._exact.nearest`.

    Args:
        scores: the server's, best first.
        k: at least 1.
        asked: how many rows were asked for.
        dim: of the vectors.
    """
    margin = 2 * dim * float(np.finfo(np.float32).eps)
    return len(scores) < asked or scores[-1] < scores[k - 1] - margin


def ranked(items: Sequence[Item], vectors: ArrayLike, query: NDArray[np.float32], k: int) -> list[tuple[Item, float]]:
    """The k best of the items with their cosines; ties in id order.

    Args:
        items: N of them, in any order.
        vectors: float32 (N, d), theirs.
        query: float32 (d,).
        k: at least 1.
    """
    order = sorted(range(len(items)), key=lambda row: items[row].id.encode())
    array = np.asarray(vectors, np.float32).reshape(len(items), len(query))
    ((best, scores),) = nearest(array[order], query[None], k)
    return [(items[order[row]], score) for row, score in zip(best, scores.tolist(), strict=True)]
