"""Which items a backfill embeds first.

gain         (1 − cos) that the bridge is expected to leave × how often the item is found ÷ seconds that it takes
uncertainty  the expected error alone, largest first, as FastFill does (Jaeckle et al., ICLR 2023), whose variance a
             network learns; here it is the mean error of the nearest pictures for which the truth is known
label        class after class
random       any
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import ConfigError

Strategy = Literal["gain", "uncertainty", "label", "random"]
NEIGHBOURS = 10
_BLOCK = 1024
_SAMPLE = 5000


@dataclass(frozen=True, slots=True)
class Waiting:
    """Items that wait to be embedded again.

    Attributes:
        vectors: float32 (N, d), as they are stored, all of one space.
        labels: N names of classes; None where an item has none.
        errors: float (N,), the error expected of the bridge: see `expected_errors`.
        found: float (N,), how often each stands in a list of hits: see `hubness`.
        seconds: float (N,), what it takes to embed each.
    """

    vectors: NDArray[np.float32]
    labels: Sequence[str | None]
    errors: NDArray[np.float64]
    found: NDArray[np.float64]
    seconds: NDArray[np.float64]


def gains(waiting: Waiting) -> NDArray[np.float64]:
    """Expected gain an image-second: float64 (N,)."""
    return waiting.errors * (waiting.found + 1) / np.maximum(waiting.seconds, 1e-9)


def order(strategy: str, waiting: Waiting, seed: int = 0) -> NDArray[np.int64]:
    """Positions of the items, those to be embedded first in front: a permutation, int64 (N,).

    Raises:
        ConfigError: the strategy is unknown.
    """
    number = len(waiting.labels)
    shuffled = np.random.default_rng(seed).permutation(number)
    if strategy == "random":
        return shuffled
    if strategy == "label":
        return np.array(sorted(range(number), key=lambda item: (str(waiting.labels[item]), item)), dtype=np.int64)
    if strategy not in get_args(Strategy):
        raise ConfigError(f"order {strategy!r}: what there is: {', '.join(get_args(Strategy))}.")
    score = gains(waiting) if strategy == "gain" else waiting.errors
    return shuffled[np.argsort(-score[shuffled], kind="stable")]


def expected_errors(
    vectors: NDArray[np.float32], known: NDArray[np.float32], errors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The bridge's error expected for each vector: the mean over the nearest for which it is known.

    Args:
        vectors: float32 (N, d), unit rows.
        known: float32 (K, d), unit rows of the same space.
        errors: float (K,), theirs.

    Returns:
        float64 (N,); ones where nothing is known.
    """
    if not len(known):
        return np.ones(len(vectors))
    count = min(NEIGHBOURS, len(known))
    found = []
    for start in range(0, len(vectors), _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ known.T
        nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        found.append(errors[nearest].mean(axis=1))
    return np.concatenate(found) if found else np.empty(0)


def hubness(vectors: NDArray[np.float32], seed: int = 0) -> NDArray[np.float64]:
    """How often each item is among the nearest of other items: the k-occurrence, float64 (N,).

    Of many items a sample asks, and the counts are those of all in proportion (Radovanović, Nanopoulos, Ivanović,
    Hubs in Space, JMLR 2010).
    """
    number = len(vectors)
    if number < 2:
        return np.zeros(number)
    asking = np.random.default_rng(seed).permutation(number)[:_SAMPLE]
    count = min(NEIGHBOURS, number - 1)
    counts = np.zeros(number)
    for start in range(0, len(asking), _BLOCK):
        part = asking[start : start + _BLOCK]
        cosines = vectors[part] @ vectors.T
        cosines[np.arange(len(part)), part] = -np.inf
        nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        counts += np.bincount(nearest.ravel(), minlength=number)
    return counts * (number / len(asking))
