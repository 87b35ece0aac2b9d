"""The gate: what would change for the probe images if another generation answered, decided by evidence.

The gallery is searched as it is: queries of the candidate are carried to the stored vectors over bridges, as they would
be right after its promotion, before anything is re-embedded. Images of classes that the gallery does not hold yet are
added to it as if the generation that answers had embedded them.

Probe images are few: 2 % of 50 images is one image, which one generation finds and another does not by chance. So a
check fails only when the evidence says that its limit is missed: when even the best value that is consistent with the
probe images, at a one-sided confidence of 95 %, misses it.

* negative flips: the lower bound of Clopper and Pearson (The use of confidence or fiducial limits, Biometrika 1934) for
  k flips among n images, the 5 % quantile of Beta(k, n − k + 1);
* old retention, the ratio of the means of a_i after and b_i before over the same images: the upper bound of Fieller
  (Some problems in interval estimation, JRSS B 1954), the smallest ratio r that a one-sided t-test rejects:
  mean(a − r·b) + t₀.₉₅·s(a − r·b)/√n = 0;
* new gain: the upper bound of the mean of a_i − b_i, mean + t₀.₉₅·s/√n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from scrubjay.config import Config
from scrubjay.evaluation.compatibility import negative_flips
from scrubjay.evaluation.retrieval import RetrievalScores
from scrubjay.gallery.calibration import probability
from scrubjay.gate.report import Change, Check, Figures, FirstItem, Flip
from scrubjay.gate.view import GalleryView

CONFIDENCE = 0.95
"""One-sided confidence of the evidence by which a check fails."""

Array = NDArray[np.float64]


class GateOptions(Config):
    """What a new generation has to keep before it answers queries; shares from 0 to 1.

    A check fails when the evidence of the probe images says, at a confidence of 95 %, that its limit is missed.
    """

    old_retention: float = Field(0.98, ge=0)
    """Recall@1 and mAP@R on old classes as a share of what they are now; the lower of both must be at least this."""
    negative_flips: float = Field(0.02, ge=0, le=1)
    """Share of the probe images of old classes whose best item is right now and would be wrong, at most."""
    new_gain: float = 0.0
    """Recall@1 on new classes minus what it is now, at least."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the probe images say about a candidate; the attributes are those of `GateReport`."""

    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    groups: dict[str, Change]
    flips: tuple[Flip, ...]
    unjudged: tuple[str, ...]


def decide(old_classes: Sequence[str], before: GalleryView, after: GalleryView, options: GateOptions) -> Decision:
    """Compare a candidate with the generation that answers, on the same probe images.

    Args:
        old_classes: names of the classes that the serving generation has learned.
        before: the gallery as the serving generation sees it, one query for each probe image.
        after: the same as the candidate sees it.
        options: the limits.
    """
    known = set(old_classes)
    is_old = np.array([probe.label in known for probe in before.probes], dtype=bool)
    everything = np.ones(len(is_old), dtype=bool)
    selections = {"old": (is_old, known), "new": (~is_old, None), "seen": (everything, None)}
    groups: dict[str, Change] = {}
    scores: dict[str, tuple[RetrievalScores, RetrievalScores]] = {}
    for name, (queries, classes) in selections.items():
        pair = before.evaluate(queries, classes), after.evaluate(queries, classes)
        figures = [Figures.of(each) for each in pair]
        if figures[0] is not None and figures[1] is not None:
            labels = {probe.label for probe, chosen in zip(before.probes, queries, strict=True) if chosen}
            groups[name] = Change(pair[1].queries, len(labels), figures[0], figures[1])
            scores[name] = pair
    flips = _flips(before, after, is_old)
    checks = (
        _retention_check(scores.get("old"), options.old_retention),
        _flips_check(len(flips), int(is_old.sum()), options.negative_flips),
        _gain_check(scores.get("new"), options.new_gain),
    )
    reasons = [_reason(check) for check in checks if check.passed is False]
    if "old" not in groups:
        reasons.append("no probe image of an old class has a match in the gallery: nothing says whether they are kept")
    unjudged = sorted(known - {probe.label for probe in before.probes})
    return Decision(tuple(reasons), checks, groups, flips, tuple(unjudged))


def lower_bound_of_share(successes: int, trials: int) -> float:
    """The smallest probability that is consistent with so many successes, at `CONFIDENCE`; 0 without a success.

    >>> round(lower_bound_of_share(1, 50), 4), round(lower_bound_of_share(4, 50), 4)
    (0.001, 0.0278)
    """
    from scipy.stats import beta

    return float(beta.ppf(1 - CONFIDENCE, successes, trials - successes + 1)) if successes else 0.0


def upper_bound_of_mean(values: Array) -> float:
    """The largest mean that is consistent with the values, at `CONFIDENCE`; infinity for fewer than two values."""
    from scipy.stats import t

    if len(values) < 2:
        return math.inf
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) + float(t.ppf(CONFIDENCE, len(values) - 1)) * error


def upper_bound_of_ratio(after: Array, before: Array) -> float:
    """The largest ratio mean(after) / mean(before) that is consistent with paired values, at `CONFIDENCE`.

    The smallest r ≥ mean(a) / mean(b) with mean(a − r·b) + t·s(a − r·b)/√n = 0, a root of the quadratic equation
    r²(b̄² − q·s_b²) − 2r(ā·b̄ − q·s_ab) + ā² − q·s_a² = 0 with q = t²/n (Fieller). Infinity where there is none, for
    fewer than two values, and where `before` is 0 throughout.
    """
    from scipy.stats import t

    if len(after) < 2 or not before.any():
        return math.inf
    q = float(t.ppf(CONFIDENCE, len(after) - 1)) ** 2 / len(after)
    a, b = float(after.mean()), float(before.mean())
    (s_aa, s_ab), (_, s_bb) = np.cov(after, before).tolist()
    roots = np.roots([b * b - q * s_bb, -2 * (a * b - q * s_ab), a * a - q * s_aa])
    # A double root, of values without spread, comes out of rounding as a pair with imaginary parts of about 1e-8.
    reached = [root.real for root in roots if abs(root.imag) < 1e-6 and root.real >= a / b - 1e-6]
    return float(min(reached, default=math.inf))


def images_needed(allowed_loss: float) -> int | None:
    """The number of images that show, without a single loss, that a share of losses is at most `allowed_loss`.

    The smallest n with (1 − allowed_loss)^n ≤ 1 − `CONFIDENCE`; None where no number does.

    >>> images_needed(0.02), images_needed(0.0), images_needed(1.0)
    (149, None, 1)
    """
    if allowed_loss <= 0:
        return None
    return 1 if allowed_loss >= 1 else math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-allowed_loss))


def _retention_check(scores: tuple[RetrievalScores, RetrievalScores] | None, limit: float) -> Check:
    """The lower share of recall@1 and mAP@R that is kept; a figure that is 0 now cannot be lost."""
    if scores is None:
        return Check("old_retention", None, None, limit, "minimum", None, 0, images_needed(1 - limit))
    values = [_paired(scores, name) for name in ("found_first", "map_at_r_per_query")]
    shares = [float(after.mean() / before.mean()) for after, before in values if before.any()]
    bound = min(upper_bound_of_ratio(after, before) for after, before in values)
    measured = min(shares, default=1.0)
    passed = bound >= limit
    needed = images_needed(1 - limit)
    return Check("old_retention", measured, bound, limit, "minimum", passed, len(values[0][0]), needed)


def _flips_check(flips: int, images: int, limit: float) -> Check:
    if not images:
        return Check("negative_flips", None, None, limit, "maximum", None, 0, images_needed(limit))
    bound = lower_bound_of_share(flips, images)
    needed = images_needed(limit)
    return Check("negative_flips", flips / images, bound, limit, "maximum", bound <= limit, images, needed)


def _gain_check(scores: tuple[RetrievalScores, RetrievalScores] | None, limit: float) -> Check:
    if scores is None:
        return Check("new_gain", None, None, limit, "minimum", None, 0, None)
    after, before = _paired(scores, "found_first")
    gains = after - before
    bound = upper_bound_of_mean(gains)
    return Check("new_gain", float(gains.mean()), bound, limit, "minimum", bound >= limit, len(gains), None)


def _paired(scores: tuple[RetrievalScores, RetrievalScores], figure: str) -> tuple[Array, Array]:
    """A figure of each query by the candidate and by the serving generation, of the queries that both counted."""
    before, after = scores
    _, rows_before, rows_after = np.intersect1d(before.positions, after.positions, return_indices=True)
    return (
        getattr(after, figure)[rows_after].astype(np.float64),
        getattr(before, figure)[rows_before].astype(np.float64),
    )


def _reason(check: Check) -> str:
    meanings = {
        "old_retention": "old classes are found less well",
        "negative_flips": "images of old classes that are found now would be lost",
        "new_gain": "new classes are not found better than now",
    }
    relation, best = ("<", "at most") if check.kind == "minimum" else (">", "at least")
    return (
        f"{check.name} {check.measured:.3f} ({best} {check.bound:.3f} by the evidence of {check.images} images) "
        f"{relation} {check.limit:g}: {meanings[check.name]}"
    )


def _flips(before: GalleryView, after: GalleryView, is_old: NDArray[np.bool_]) -> tuple[Flip, ...]:
    """Probe images of old classes whose best item is right before and wrong after."""
    first = [view.first_items() for view in (before, after)]
    right = [
        np.array([view.labels[item] == probe.label for probe, item in zip(view.probes, items, strict=True)], dtype=bool)
        for view, items in zip((before, after), first, strict=True)
    ]
    lost = negative_flips(right[0] & is_old, right[1] | ~is_old)
    flips = []
    for row in lost.tolist():
        probe = before.probes[row]
        image = str(probe.sample.path if probe.sample else probe.original)
        items = [_first_item(view, row, int(best[row])) for view, best in zip((before, after), first, strict=True)]
        flips.append(Flip(image, probe.label, *items))
    return tuple(flips)


def _first_item(view: GalleryView, query: int, item: int) -> FirstItem:
    return FirstItem(view.uris[item], view.labels[item], float(probability(view.scores[query, item])))
