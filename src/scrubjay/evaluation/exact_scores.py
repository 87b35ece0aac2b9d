"""Exact cosines of float32 vectors.

Equal vectors must have equal scores, and results must not depend on blocks or threads, which float32 matrix products do
not guarantee: their last bits change with the shape of the block and the position in it. The vectors are therefore
first rounded to multiples of 2^-26, a change of at most 2^-27 in each component, which is below the rounding errors of
the float32 product that it replaces. All products are then multiples of 2^-52 and all partial sums of unit vectors are
below 2, so every sum is exact in float64, in any order: results are bit for bit the same for any block size, number of
threads, linear algebra library or machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import DataError

NORM_TOLERANCE = 0.01

_GRID_BITS = 26
_TILE_BYTES = 4 * 2**20


def check_vectors(name: str, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Check vectors, and round them to the grid of this module: float32 (N, d), finite, unit rows.

    Raises:
        DataError: they are not of two dimensions, finite and of unit length, or there are none.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise DataError(f"{name}: vectors of shape {vectors.shape}; needed are (N, d) with at least one row.")
    with np.errstate(all="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= NORM_TOLERANCE))
    if wrong.size:
        length = float(lengths[wrong[0]])
        problem = (
            f"has length {length:.3g}: normalise the rows" if np.isfinite(length) else "is not finite: leave it out"
        )
        raise DataError(f"{name}: vector {wrong[0]} {problem} ({wrong.size} of {len(vectors)} vectors are wrong).")
    return np.ldexp(np.rint(np.ldexp(vectors, _GRID_BITS)), -_GRID_BITS)


def exact_scores(query: NDArray[np.float32], items: NDArray[np.float32]) -> NDArray[np.float64]:
    """Exact cosines of one query (d,) and some items (R, d), vectors of `check_vectors`: float64 (R,)."""
    return items.astype(np.float64) @ query.astype(np.float64)


def exact_product(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Exact dot products, written into `scores` (Q, G). Tiles keep the float64 copy of the gallery small."""
    exact = queries.astype(np.float64)
    tile = max(1, _TILE_BYTES // (8 * gallery.shape[1]))
    for start in range(0, len(gallery), tile):
        stop = start + tile
        np.matmul(exact, gallery[start:stop].astype(np.float64).T, out=scores[:, start:stop])
    return scores
