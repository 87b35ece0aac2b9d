"""Exact ranks of relevant items from 16-bit codes of float32 cosines, with exact cosines where codes are too close.

A float32 product has half the cost of the exact float64 product of `scrubjay.evaluation.exact_scores`, but an error of
up to ε = d 2^-24 |q| |g| in any order of summation (Higham, Accuracy and Stability of Numerical Algorithms, 2002, eq.
3.5). The code of a cosine x is the integer part of 32,000 x, which never decreases with x. An item whose code is above
that of s + ε is therefore better than an item with the exact cosine s, one whose code is below that of s − ε is worse,
and the few items in between are compared by their exact cosines. Codes of 16 bits are sorted in linear time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scrubjay.evaluation.exact_scores import NORM_TOLERANCE, exact_scores

_SCALE = np.float32(32_000)
_LEFT_OUT = np.iinfo(np.int16).min
_TILE = 1024


class CodedGallery:
    """A gallery that ranks blocks of queries by codes.

    Args:
        gallery: float32 (G, d), vectors of `check_vectors`.
    """

    def __init__(self, gallery: NDArray[np.float32]) -> None:
        self._gallery = gallery
        # Rounding of s ± ε to float32 adds less than 2^-23.
        self._error = (gallery.shape[1] + 2) * 2.0**-24 * (1 + NORM_TOLERANCE) ** 2 * 1.01

    def codes(self, queries: NDArray[np.float32], own: NDArray[np.int64], out: NDArray[np.int16]) -> None:
        """Write the codes of the cosines of some queries (B, d) to `out`, int16 (B, G).

        Args:
            queries: float32 (B, d).
            own: int64 (B,), position of the query itself, which gets the lowest code; −1 for none.
            out: int16 (B, G).
        """
        tile = np.empty((len(queries), _TILE), np.float32)
        for start in range(0, len(self._gallery), _TILE):
            items = self._gallery[start : start + _TILE]
            scores = np.matmul(queries, items.T, out=tile[:, : len(items)])
            np.multiply(scores, _SCALE, out=scores)
            np.copyto(out[:, start : start + len(items)], scores, casting="unsafe")
        inside = np.flatnonzero(own >= 0)
        out[inside, own[inside]] = _LEFT_OUT

    def ranks(
        self, query: NDArray[np.float32], codes: NDArray[np.int16], items: NDArray[np.int64]
    ) -> NDArray[np.int64] | None:
        """Ranks of some items, ascending; None where so many cosines are too close that ranking all is cheaper.

        Args:
            query: float32 (d,).
            codes: int16 (G,), its row of `codes`.
            items: int64 (R,), ascending positions in the gallery.
        """
        exact = exact_scores(query, self._gallery[items])
        low, high = _code(exact - self._error), _code(exact + self._error)
        candidates = np.flatnonzero(codes >= low.min())
        kept = codes.take(candidates)
        order = kept.argsort(kind="stable")  # a radix sort, since codes have 16 bits
        first, last = kept.searchsorted(low, "left", order), kept.searchsorted(high, "right", order)
        ranks = len(kept) - last + 1
        close = last - first  # at least the item itself
        if close.sum() > len(items) + len(codes) // 8:
            return None
        unsure = np.flatnonzero(close > 1)
        if len(unsure):
            close = close[unsure]
            owner = unsure.repeat(close)
            places = np.arange(len(owner)) + (first[unsure] - close.cumsum() + close).repeat(close)
            others = candidates[order[places]]
            scores, threshold = exact_scores(query, self._gallery[others]), exact[owner]
            better = (scores > threshold) | ((scores == threshold) & (others < items[owner]))
            ranks += np.bincount(owner[better], minlength=len(items))
        ranks.sort()
        return ranks


def _code(scores: NDArray[np.float64]) -> NDArray[np.int16]:
    return (scores.astype(np.float32) * _SCALE).astype(np.int16)
