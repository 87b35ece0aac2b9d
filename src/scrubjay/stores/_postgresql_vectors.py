"""Vectors in pgvector's binary format: the dimension and a zero as int16, then float32 coordinates, all big-endian."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_PAGE = 8192


def _layout(dim: int) -> np.dtype[np.void]:
    return np.dtype([("dim", ">i2"), ("unused", ">i2"), ("vector", ">f4", (dim,))])


def page(dim: int) -> int:
    """Number of rows to fetch at once: at most 16 MB of vectors, and at most `_PAGE` rows."""
    return max(1, min(_PAGE, (1 << 22) // dim))


def encoded(vectors: NDArray[np.float32]) -> Iterator[bytes]:
    """Encode the rows of float32 (N, d) one by one, without any rounding."""
    rows = np.zeros(len(vectors), _layout(vectors.shape[1]))
    rows["dim"], rows["vector"] = vectors.shape[1], vectors
    return map(bytes, rows.view((np.void, rows.dtype.itemsize)))


def decoded(rows: Sequence[bytes], dim: int) -> NDArray[np.float32]:
    """Decode N rows to vectors float32 (N, d).

    >>> decoded(list(encoded(np.float32([[0.6, 0.8]]))), 2).tolist() == np.float32([[0.6, 0.8]]).tolist()
    True
    """
    vectors = np.frombuffer(b"".join(rows), _layout(dim))["vector"]
    return vectors.astype(np.float32).reshape(len(rows), dim)


def written(vector: NDArray[np.float32]) -> str:
    """One vector as text, for a parameter of a statement."""
    return f"[{','.join(map(repr, vector.tolist()))}]"
