"""Orders the items of a backfill.

gain         the gradient of the ranking loss of the probe images by the item's score ÷ seconds to embed the item
uncertainty  the expected error of the bridge, largest first, as FastFill orders (Jaeckle et al., ICLR 2023). There a
             network learns the variance; here it is the mean error of the nearest images whose error is known
label        class after class
random       shuffled

The score gradient of an item i is the derivative, by its score s_i, of the loss that calibrations are fitted with: how
strongly the order of each query's list would change the score,

    gradient_i = Σ_q | e^{s_qi} / Σ_j e^{s_qj} − [i is a match of q] / matches of q |

It is large for an item that ranks above the matches of other classes, and for one that queries of its own class do not
find; it is 0 for an item that is ranked right, and for one that no query comes near. Selection by the length of a
gradient is known from active learning (Settles, Craven, Ray, Multiple-Instance Active Learning, NIPS 2007).
`docs/results/mixed_search.md` compares the orders (`benchmarks/studies/mixed_search.py`): by mAP@R the gradient is well
ahead of all others; by recall@1 it is about level with a random order, and the order by the bridge's error is behind
that, because an item whose vector is far off does not necessarily outrank any match. Without probe images all gradients
are equal, and `gain` is a random order.
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
"""Number of nearest images over which the error of a bridge is averaged."""
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class BackfillQueue:
    """N items that are to be re-embedded, and what their order depends on.

    Attributes:
        labels: names of the N classes; None for an item without a label.
        errors: float (N,), expected error of the bridge for each item; see `expected_errors`.
        gradients: float (N,), see `score_gradients`; all equal without probe images.
        seconds: float (N,), seconds to embed each item.
    """

    labels: Sequence[str | None]
    errors: NDArray[np.float64]
    gradients: NDArray[np.float64]
    seconds: NDArray[np.float64]


def gains_per_second(queue: BackfillQueue) -> NDArray[np.float64]:
    """Expected gain for each second of embedding: float64 (N,)."""
    return queue.gradients / np.maximum(queue.seconds, 1e-9)


def backfill_order(strategy: str, queue: BackfillQueue, seed: int = 0) -> NDArray[np.int64]:
    """Positions of the items in the order in which to embed them: a permutation, int64 (N,). Ties are shuffled.

    Args:
        strategy: "gain", "uncertainty", "label" or "random".
        queue: the items.
        seed: seed of the shuffle.

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
        raise ConfigError(f"order {strategy!r} is unknown; known are: {', '.join(get_args(Strategy))}.")
    priority = gains_per_second(queue) if strategy == "gain" else queue.errors
    return shuffled[np.argsort(-priority[shuffled], kind="stable")]


def score_gradients(
    scores: NDArray[np.floating[Any]], matches: NDArray[np.bool_], counted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Gradient of the ranking loss of all queries by the score of each item, for the merged lists of today's gallery.

    Args:
        scores: float (Q, N), calibrated log-odds of queries of known classes.
        matches: bool (Q, N), whether query and item are of one class.
        counted: bool (Q, N); a query does not count against itself.

    Returns:
        float64 (N,); ones where no query has a match.
    """
    with_match = np.flatnonzero((matches & counted).any(axis=1))
    if not len(with_match):
        return np.ones(scores.shape[1])
    gradients = np.zeros(scores.shape[1])
    for rows in np.array_split(with_match, -(-len(with_match) // _BLOCK)):
        target = (matches & counted)[rows]
        s = np.where(counted[rows], scores[rows], -np.inf).astype(np.float64)
        p = np.exp(s - s.max(axis=1, keepdims=True))
        softmax, target_share = p / p.sum(axis=1, keepdims=True), target / target.sum(axis=1, keepdims=True)
        gradients += np.abs(softmax - target_share).sum(axis=0)
    return gradients


def expected_errors(
    vectors: NDArray[np.float32], known: NDArray[np.float32], errors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Expected error of the bridge for each vector: the mean over its nearest vectors whose error is known.

    Args:
        vectors: float32 (N, d), unit rows.
        known: float32 (K, d), unit rows of the same space, whose errors are known.
        errors: float (K,), the known errors.

    Returns:
        float64 (N,); ones where no error is known.
    """
    if not len(known):
        return np.ones(len(vectors))
    count = min(NEIGHBOURS, len(known))
    means = []
    for start in range(0, len(vectors), _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ known.T
        nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        means.append(errors[nearest].mean(axis=1))
    return np.concatenate(means) if means else np.empty(0)
