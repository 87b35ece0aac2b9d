"""Suspects wrong labels by confident learning, with class probabilities from the neighbours of each held-out image.

Northcutt, Jiang, Chuang, Confident Learning, Journal of Artificial Intelligence Research 70, 2021:

    p̂_j(x)   share of class j among the K nearest other images, weighted by 1 / (number of images of j)^½
    t_j      mean of p̂_j over the images labelled j: how sure the neighbours are of class j
    suspect  an image labelled i whose most probable class j ≠ i has p̂_j ≥ t_j and p̂_j > p̂_i

The weights keep a large class from claiming the images of a small one. Where even the best class is below its t_j, the
image is unlike all classes; that is no evidence of a wrong label. Of 400 photographs of 20 classes of groceries,
embedded by the untrained default network, none is suspected; with 5 % of the labels exchanged, 76 % of these are found,
and nothing else (with 20 %: 84 %, and 95 % of what is found; means of five draws,
`benchmarks/studies/folder_check.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

K = 8
"""Number of neighbours."""
FEW = 3
"""Classes with fewer images than this neither suspect nor are suspected: their neighbours say too little."""
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Suspect:
    """An image whose label may be wrong.

    Attributes:
        row: its row.
        label: the class that its neighbours suggest.
        neighbours: rows of its nearest images of that class, nearest first.
        margin: p̂ of that class minus p̂ of its own class, above 0 and up to 1.
    """

    row: int
    label: str
    neighbours: tuple[int, ...]
    margin: float


def suspected(labels: Sequence[str], vectors: NDArray[np.float32], examined: int) -> list[Suspect]:
    """The images whose labels may be wrong, the most suspicious first.

    Args:
        labels: label of each of N images.
        vectors: float32 (N, d), unit rows.
        examined: the first so many images are examined; the others are neighbours only.
    """
    names, codes = np.unique(np.array(labels, dtype=object), return_inverse=True)
    if len(names) < 2 or len(labels) < 3:
        return []
    sizes = np.bincount(codes)
    near, shares = _neighbour_shares(codes, sizes, vectors)
    sure = np.array([shares[codes == code, code].mean() for code in range(len(names))])
    known = sizes >= FEW
    usable = np.where(known & (shares >= sure), shares, -np.inf)
    best = usable.argmax(axis=1)
    found = []
    for row in range(examined):
        own, other = int(codes[row]), int(best[row])
        margin = float(usable[row, other] - shares[row, own])
        if known[own] and other != own and margin > 0:
            rows = [int(each) for each in near[row] if codes[each] == other]
            found.append(Suspect(row, str(names[other]), tuple(rows), margin))
    return sorted(found, key=lambda suspect: (-suspect.margin, suspect.row))


def _neighbour_shares(
    codes: NDArray[np.intp], sizes: NDArray[np.intp], vectors: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Rows of the nearest other images (N, K), nearest first, and p̂ (N, C)."""
    number = min(K, len(codes) - 1)
    near = np.empty((len(codes), number), dtype=np.intp)
    for start in range(0, len(codes), _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ vectors.T
        own = np.arange(len(cosines))
        cosines[own, start + own] = -np.inf
        best = np.argpartition(-cosines, number - 1, axis=1)[:, :number]
        order = np.argsort(-np.take_along_axis(cosines, best, 1), axis=1, kind="stable")
        near[start : start + _BLOCK] = np.take_along_axis(best, order, 1)
    shares = np.zeros((len(codes), len(sizes)))
    weights = 1 / np.sqrt(sizes)
    rows = np.repeat(np.arange(len(codes)), number)
    np.add.at(shares, (rows, codes[near].ravel()), weights[codes[near]].ravel())
    return near, shares / shares.sum(axis=1, keepdims=True)
