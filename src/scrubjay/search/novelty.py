"""Whether a query is of no known class, and whether too many are: time to learn.

No match. The best score of an image of an unknown class is at most q in a share 1 − α of cases, for q the
⌈(n + 1)(1 − α)⌉-th smallest of n such scores (split conformal prediction; Vovk, Gammerman, Shafer, Algorithmic Learning
in a Random World, 2005; Papadopoulos et al., 2002). A hit counts as a match only above q. This is a promise for the
mean over probe sets, and as far as a query of an unknown class is like the probe images with their class taken away;
of n scores that are independent, a single set's share varies by about √(α(1 − α)/n).

Time to learn. If nothing is new, a query stays unmatched with a probability of at most p₀, an upper bound (95 %,
Clopper and Pearson, 1934) from the probe images of known classes. Then e = 1 + λ (x − p₀), x = 1 for an unmatched
query, is on average at most 1 for 0 < λ < 1/p₀, and W ← max(W, 1)·e passes a limit c by chance no more often than
once in c queries on average, while it grows exponentially when new classes come (the CUSUM e-detector of Shin,
Ramdas, Rinaldo, New England Journal of Statistics in Data Science 2024). No matter how often one looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scrubjay.search.query_log import Query

LIMIT = 1000.0
"""Queries between two alarms where nothing is new, on average at least."""
WINDOW = 200
"""Newest queries that are counted and grouped."""
_BETS = (0.1, 0.3, 0.6)  # λ·p₀: shares of the stake


@dataclass(frozen=True, slots=True)
class Novelty:
    """What the last queries say.

    Attributes:
        queries: that were looked at, each image once.
        unmatched: of these.
        expected: share that is unmatched where nothing is new, at most.
        wealth: W; 1 where nothing is known.
        alarm: W is past its limit.
        groups: the unmatched queries by likeness, the largest group first.
    """

    queries: int
    unmatched: int
    expected: float
    wealth: float
    alarm: bool
    groups: tuple[tuple[Query, ...], ...]


def expected_share(known: Sequence[float], needed: float) -> float:
    """p₀: at most so many images of known classes stay at or below the threshold, with 95 % confidence.

    Args:
        known: best scores of images of known classes, among items of their own class.
        needed: the threshold.
    """
    from scipy.stats import beta

    missed, n = sum(score <= needed for score in known), len(known)
    return 1.0 if missed >= n else float(beta.ppf(0.95, missed + 1, n - missed))


def wealth(unmatched: Sequence[bool], expected: float) -> float:
    """W after a sequence of queries: the mean over several λ, which is an e-detector too.

    Args:
        unmatched: of each query, oldest first.
        expected: p₀ in 0 … 1.
    """
    if not 0 < expected < 1:
        return 1.0
    bets = np.array(_BETS)
    reached = np.ones(len(bets))
    for x in unmatched:
        reached = np.maximum(reached, 1) * (1 + bets / expected * (x - expected))
    return float(reached.mean())


def novelty(queries: Sequence[Query], known: Sequence[float], needed: float, alike: float) -> Novelty:
    """What the last queries say about new classes.

    Args:
        queries: oldest first; of one generation.
        known: see `expected_share`.
        needed: see `expected_share`.
        alike: cosine at which two images are as likely of one class as not; queries are grouped by it.
    """
    newest: dict[str, Query] = {}
    for query in queries:
        if query.matched is not None:
            newest.pop(query.content, None)
            newest[query.content] = query
    distinct = list(newest.values())
    expected = expected_share(known, needed)
    reached = wealth([not query.matched for query in distinct], expected)
    seen = distinct[-WINDOW:]
    odd = [query for query in seen if not query.matched]
    return Novelty(len(seen), len(odd), expected, reached, reached >= LIMIT, grouped(odd, alike))


def grouped(queries: Sequence[Query], alike: float) -> tuple[tuple[Query, ...], ...]:
    """Queries by likeness: average linkage over cosines, cut at `alike`; the largest group first."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(queries) < 2:
        return tuple((query,) for query in queries)
    vectors = np.stack([query.vector for query in queries]).astype(np.float64)
    distances = np.clip(1 - vectors @ vectors.T, 0, None)
    np.fill_diagonal(distances, 0)
    clusters = fcluster(linkage(squareform(distances, checks=False), "average"), max(1 - alike, 0), "distance")
    groups: dict[int, list[Query]] = {}
    for query, cluster in zip(queries, clusters.tolist(), strict=True):
        groups.setdefault(cluster, []).append(query)
    return tuple(tuple(group) for group in sorted(groups.values(), key=len, reverse=True))


def message(found: Novelty) -> str | None:
    """The line that says so, if it is time to learn."""
    if not found.alarm:
        return None
    groups = sum(len(group) > 1 for group in found.groups)
    return (
        f"time to learn: {found.unmatched} of the last {found.queries} queries look like new classes "
        f"({groups} {'group' if groups == 1 else 'groups'} of two images or more; "
        f"{found.expected:.0%} would be usual at most)."
    )
