"""Detects from live queries that images of classes come in that were never learned, and groups these images.

A query is unmatched when its best hit does not exceed the match threshold; see
`scrubjay.gallery.calibration.conformal_threshold`. If no class is new, a query is unmatched with a probability of at
most p₀, an upper confidence bound (95 %, Clopper and Pearson, 1934) from the probe images of known classes. Then
e = 1 + λ (x − p₀), with x = 1 for an unmatched query and 0 otherwise, has a mean of at most 1 for 0 < λ < 1/p₀, and
W ← max(W, 1)·e exceeds a limit c by chance no more often than once in c queries on average, however often one looks,
while it grows exponentially when new classes come in (the CUSUM e-detector of Shin, Ramdas, Rinaldo, New England
Journal of Statistics in Data Science 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scrubjay.search.query_log import Query

ALARM_LIMIT = 1000.0
"""W at which an alarm is raised: the smallest mean number of queries between two alarms if no class is new."""
WINDOW = 200
"""Number of newest queries that are counted and grouped."""
_BETS = (0.1, 0.3, 0.6)  # values of λ·p₀


@dataclass(frozen=True, slots=True)
class Novelty:
    """What the newest queries say about new classes.

    Attributes:
        queries: number of queries that were examined; each image counts once.
        unmatched: number of unmatched queries among them.
        expected: p₀, the largest share of unmatched queries that is expected if no class is new.
        wealth: W; 1 where no probe image of a known class exists.
        alarm: W has reached `ALARM_LIMIT`.
        groups: the unmatched queries in groups of similar images, the largest group first.
    """

    queries: int
    unmatched: int
    expected: float
    wealth: float
    alarm: bool
    groups: tuple[tuple[Query, ...], ...]


def expected_share(match_scores: Sequence[float], threshold: float) -> float:
    """p₀: upper bound, at 95 % confidence, of the share of images of known classes that are unmatched.

    Args:
        match_scores: best scores of images of known classes, among items of their own class.
        threshold: the match threshold; a score at or below it is unmatched.
    """
    from scipy.stats import beta

    missed, n = sum(score <= threshold for score in match_scores), len(match_scores)
    return 1.0 if missed >= n else float(beta.ppf(0.95, missed + 1, n - missed))


def wealth(unmatched: Sequence[bool], expected: float) -> float:
    """W after a sequence of queries, averaged over several λ; the mean of e-detectors is an e-detector.

    Args:
        unmatched: for each query whether it is unmatched, oldest first.
        expected: p₀, 0 to 1.
    """
    if not 0 < expected < 1:
        return 1.0
    bets = np.array(_BETS)
    values = np.ones(len(bets))
    for x in unmatched:
        values = np.maximum(values, 1) * (1 + bets / expected * (x - expected))
    return float(values.mean())


def novelty(queries: Sequence[Query], match_scores: Sequence[float], threshold: float, min_cosine: float) -> Novelty:
    """What the newest queries say about new classes.

    Args:
        queries: answered queries of one generation, oldest first.
        match_scores: see `expected_share`.
        threshold: see `expected_share`.
        min_cosine: cosine at which two images are of the same class with a probability of one half; see `grouped`.
    """
    last_answers: dict[str, Query] = {}
    for query in queries:
        if query.matched is not None:
            last_answers.pop(query.content, None)
            last_answers[query.content] = query
    distinct = list(last_answers.values())
    expected = expected_share(match_scores, threshold)
    value = wealth([not query.matched for query in distinct], expected)
    newest = distinct[-WINDOW:]
    unmatched = [query for query in newest if not query.matched]
    groups = grouped(unmatched, min_cosine)
    return Novelty(len(newest), len(unmatched), expected, value, value >= ALARM_LIMIT, groups)


def grouped(queries: Sequence[Query], min_cosine: float) -> tuple[tuple[Query, ...], ...]:
    """Group queries of similar images, by average linkage of cosines, cut at `min_cosine`; the largest group first."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(queries) < 2:
        return tuple((query,) for query in queries)
    vectors = np.stack([query.vector for query in queries]).astype(np.float64)
    distances = np.clip(1 - vectors @ vectors.T, 0, None)
    np.fill_diagonal(distances, 0)
    clusters = fcluster(linkage(squareform(distances, checks=False), "average"), max(1 - min_cosine, 0), "distance")
    groups: dict[int, list[Query]] = {}
    for query, cluster in zip(queries, clusters.tolist(), strict=True):
        groups.setdefault(cluster, []).append(query)
    return tuple(tuple(group) for group in sorted(groups.values(), key=len, reverse=True))


def message(result: Novelty) -> str | None:
    """One line for a terminal that recommends to learn; None without an alarm."""
    if not result.alarm:
        return None
    groups = sum(len(group) > 1 for group in result.groups)
    return (
        f"time to learn: {result.unmatched} of the last {result.queries} queries look like new classes "
        f"({groups} {'group' if groups == 1 else 'groups'} of two images or more; "
        f"without new classes, at most {result.expected:.0%} is expected)."
    )
