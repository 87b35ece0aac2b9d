"""Figures for choosing settings: the agreement of two embedding spaces, and of two rankings of candidates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def agreement(z_o: NDArray[np.float32], z_n: NDArray[np.float32], temperature: float = 0.1) -> float:
    """How far two networks assign the same neighbours to the same images.

    1 − (1/2N) Σ_ij |A_n,ij − A_o,ij|,   A = softmax of each row of z zᵀ / T without its diagonal

    Each row of A distributes one unit over the other images; the figure is the mean share that both networks give to
    the same images. It is the affinity of LSTKC (Xu et al., AAAI 2024), whose mean over all N² entries is near 1
    whatever the networks do, with the sum over each row in place of that mean and without the image itself.

    >>> z = np.eye(3, dtype=np.float32)
    >>> agreement(z, z)
    1.0

    Args:
        z_o: (N, d) unit rows.
        z_n: (N, d') unit rows, of the same images.
        temperature: T > 0.

    Returns:
        0 … 1; always 1 for fewer than three images, where a row has a single entry.
    """
    if len(z_o) < 3:
        return 1.0
    A_o, A_n = (_shares(z @ z.T / temperature) for z in (z_o, z_n))
    return float(1 - np.abs(A_n - A_o).sum() / (2 * len(z_o)))


def _shares(similarity: NDArray[np.float32]) -> NDArray[np.float64]:
    values = similarity.astype(np.float64)
    np.fill_diagonal(values, -np.inf)
    exponentials = np.exp(values - values.max(1, keepdims=True))
    shares: NDArray[np.float64] = exponentials / exponentials.sum(1, keepdims=True)
    return shares


def place(values: list[float], index: int) -> int:
    """The rank of one of the values, from 1, where lower is better; equal values share the better rank.

    >>> place([0.3, 0.1, 0.3, 0.2], 2)
    3
    """
    return 1 + sum(value < values[index] for value in values)


def spearman(one: list[float], other: list[float]) -> float | None:
    """Spearman's rank correlation; equal values share their mean rank. None where all values of a list are equal.

    >>> spearman([1.0, 2.0, 3.0], [10.0, 20.0, 15.0])
    0.5
    """
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (one, other)]
    centred = [values - values.mean() for values in ranks]
    scale = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float(centred[0] @ centred[1]) / scale if scale else None
