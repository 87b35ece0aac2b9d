"""Which items a backfill embeds first.

gain         the pull of the probe images on the item ÷ the seconds that it takes
uncertainty  the error that the bridge is expected to leave, largest first, as FastFill orders (Jaeckle et al., ICLR
             2023). There a network learns the variance; here it is the mean error of the nearest images for which the
             truth is known
label        class after class
random       any

The pull of a query q on an item i is how much the order of q's list would have i's score s_i changed: the derivative of
the loss that calibrations are fitted by,

    pull_i = Σ_q | e^{s_qi} / Σ_j e^{s_qj} − [i is a match of q] / matches of q |

It is large for an item that stands before the matches of others, and for one that its own class does not find; it is 0
for what is in its place already and for what nobody asks. Choosing by the length of a gradient is known from active
learning (Settles, Craven, Ray, Multiple-Instance Active Learning, NIPS 2007). `docs/results/mixed_search.md` compares
the orders (`benchmarks/mixed_search.py`): by mAP@R the pull is well ahead of all others, by recall@1 it is about level
with a random order, and an order by the bridge's error is behind that: what moved far need not be in anybody's way.
Where no probe image tells, all pulls are the same, and `gain` is a random order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import ConfigError

Strategy = Literal["gain", "uncertainty", "label", "random"]
NEIGHBOURS = 10
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class BackfillQueue:
    """Items that wait to be embedded again.

    Attributes:
        labels: N names of classes; None where an item has none.
        errors: float (N,), the error expected of the bridge: see `expected_errors`.
        gradients: float (N,), see `score_gradients`; all equal where nothing is known.
        seconds: float (N,), what it takes to embed each.
    """

    labels: Sequence[str | None]
    errors: NDArray[np.float64]
    gradients: NDArray[np.float64]
    seconds: NDArray[np.float64]


def gains(queue: BackfillQueue) -> NDArray[np.float64]:
    """Expected gain an image-second: float64 (N,)."""
    return queue.gradients / np.maximum(queue.seconds, 1e-9)


def order(strategy: str, queue: BackfillQueue, seed: int = 0) -> NDArray[np.int64]:
    """Positions of the items, those to be embedded first in front: a permutation, int64 (N,). Ties are shuffled.

    Raises:
        ConfigError: the strategy is unknown.
    """
    number = len(queue.labels)
    shuffled = np.random.default_rng(seed).permutation(number)
    if strategy == "random":
        return shuffled
    if strategy == "label":
        return np.array(sorted(range(number), key=lambda item: (str(queue.labels[item]), item)), dtype=np.int64)
    if strategy not in get_args(Strategy):
        raise ConfigError(f"order {strategy!r}: what there is: {', '.join(get_args(Strategy))}.")
    score = gains(queue) if strategy == "gain" else queue.errors
    return shuffled[np.argsort(-score[shuffled], kind="stable")]


def score_gradients(
    scores: NDArray[np.floating[Any]], matches: NDArray[np.bool_], counted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The pull of the queries on each item, for lists as they are merged now.

    Args:
        scores: float (Q, N), calibrated log-odds of queries of known classes.
        matches: bool (Q, N), whether query and item are of one class.
        counted: bool (Q, N); a query does not count against itself.

    Returns:
        float64 (N,); ones where no query has a match.
    """
    asked = np.flatnonzero((matches & counted).any(axis=1))
    if not len(asked):
        return np.ones(scores.shape[1])
    total = np.zeros(scores.shape[1])
    for rows in np.array_split(asked, -(-len(asked) // _BLOCK)):
        live, wanted = counted[rows], (matches & counted)[rows]
        s = np.where(live, scores[rows], -np.inf).astype(np.float64)
        p = np.exp(s - s.max(axis=1, keepdims=True))
        total += np.abs(p / p.sum(axis=1, keepdims=True) - wanted / wanted.sum(axis=1, keepdims=True)).sum(axis=0)
    return total


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
