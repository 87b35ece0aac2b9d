"""The gate: what would change for the probe images if another generation answered, measured before it does.

The gallery is searched as it is: queries of the candidate reach the stored vectors over bridges, as they would right
after it is promoted, before anything is embedded again. Images of classes that the gallery does not hold yet stand
beside it as if they had been added by whichever generation answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from scrubjay.config import Config
from scrubjay.evaluation.compatibility import negative_flips
from scrubjay.evaluation.retrieval import RetrievalScores, evaluate_scores
from scrubjay.gallery.calibration import Calibration, probability
from scrubjay.gate.probe_set import Probe


class GateOptions(Config):
    """What a new generation has to keep before it answers queries; shares, of 1."""

    old_retention: float = Field(0.98, ge=0)
    """Recall@1 and mAP@R on old classes, of what they are now: the lower of both must be at least this."""
    negative_flips: float = Field(0.02, ge=0, le=1)
    """Share of the probe images of old classes that are found at rank 1 now and may be lost, at most."""
    new_gain: float = 0.0
    """By how much recall@1 on new classes must be above what it is now."""


@dataclass(frozen=True, slots=True)
class Part:
    """Items of the gallery that one space answers for.

    Attributes:
        space: its id.
        ids: of the items.
        uris: of the items.
        labels: of the items; None where an item has none.
        vectors: float32 (N, d), of that space.
    """

    space: str
    ids: Sequence[str]
    uris: Sequence[str]
    labels: Sequence[str | None]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Standing:
    """A gallery as queries of one generation find it.

    Attributes:
        parts: of the gallery; each item is in one of them.
        queries: float32 (Q, d) for each part: the queries carried into its space.
        calibrations: of each part.
    """

    parts: Sequence[Part]
    queries: Sequence[NDArray[np.float32]]
    calibrations: Sequence[Calibration]

    @property
    def ids(self) -> list[str]:
        """Of all items, part after part."""
        return [each for part in self.parts for each in part.ids]

    @property
    def uris(self) -> list[str]:
        """Of all items."""
        return [each for part in self.parts for each in part.uris]

    @property
    def labels(self) -> list[str | None]:
        """Of all items."""
        return [each for part in self.parts for each in part.labels]

    def pairs(self, probes: Sequence[Probe]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether queries and items are of one class, and whether they count: bool (Q, items); none finds itself."""
        labels, names = np.array([str(label) for label in self.labels]), np.array(self.ids)
        matches = np.array([probe.label for probe in probes])[:, None] == labels[None, :]
        return matches, np.array([probe.id for probe in probes])[:, None] != names[None, :]

    def scores(self) -> NDArray[np.float64]:
        """Calibrated scores (Q, items)."""
        found = zip(self.parts, self.queries, self.calibrations, strict=True)
        return np.hstack([calibration(queries @ part.vectors.T) for part, queries, calibration in found])


def measure(
    probes: Sequence[Probe], old: Sequence[str], before: Standing, after: Standing, options: GateOptions
) -> dict[str, Any]:
    """What would change, and whether that may be.

    Args:
        probes: Q images, the queries of both standings.
        old: names of the classes that the serving generation has learned.
        before: the gallery for the serving generation.
        after: the gallery for the candidate.
        options: what has to be kept.

    Returns:
        The keys `groups`, `old_retention`, `negative_flips`, `new_gain`, `flips`, `unjudged` (old classes without a
        probe image), `thresholds`, `passed` and `reasons` of the report.
    """
    known = set(old)
    is_old = np.array([probe.label in known for probe in probes], dtype=bool)
    standings = {"before": _ranked(probes, before), "after": _ranked(probes, after)}
    everything = np.ones(len(probes), dtype=bool)
    groups = {
        name: _group(probes, mask, standings, among)
        for name, mask, among in (("old", is_old, known), ("new", ~is_old, None), ("seen", everything, None))
    }
    flips = _flips(probes, is_old, standings)
    retention, rate = _retention(groups["old"]), len(flips) / max(1, int(is_old.sum()))
    figures = {
        "old_retention": retention,
        "negative_flips": rate if is_old.any() else None,
        "new_gain": _gain(groups["new"]),
    }
    reasons = _reasons(figures, options)
    if groups["old"] is None:
        reasons.append("no probe image of an old class in the gallery: nothing says whether they are kept")
    return {
        "groups": groups,
        **figures,
        "unjudged": sorted(known - {probe.label for probe in probes}),
        "flips": flips,
        "thresholds": options.model_dump(mode="json"),
        "passed": not reasons,
        "reasons": reasons,
    }


def evaluated(probes: Sequence[Probe], standing: Standing) -> dict[str, float] | None:
    """Recall@1 and mAP@R of all probe images in a gallery; None where it holds none of their classes."""
    scores = _evaluated(probes, np.ones(len(probes), dtype=bool), _ranked(probes, standing), None)
    return {"recall@1": scores.recall[1], "map_at_r": scores.map_at_r} if scores.queries else None


def best_scores(probes: Sequence[Probe], standing: Standing) -> tuple[list[float], list[float]]:
    """The best probability of a match of each probe image among items of other classes, and among its own class.

    The first is what an image gets whose class is not in the gallery; the image itself is left out of both.
    """
    matches, counted = standing.pairs(probes)
    scores = standing.scores()
    return tuple(
        [float(probability(row[mask].max())) for row, mask in zip(scores, masks, strict=True) if mask.any()]
        for masks in (~matches & counted, matches & counted)
    )  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class _Ranked:
    standing: Standing
    scores: NDArray[np.float64]
    own: NDArray[np.int64]


def _ranked(probes: Sequence[Probe], standing: Standing) -> _Ranked:
    places = {each: position for position, each in enumerate(standing.ids)}
    own = np.array([places.get(probe.id, -1) for probe in probes], dtype=np.int64)
    return _Ranked(standing, standing.scores(), own)


def _group(
    probes: Sequence[Probe], mask: NDArray[np.bool_], standings: Mapping[str, _Ranked], among: set[str] | None
) -> dict[str, Any] | None:
    """Figures of some probe images before and after, among items of some classes; None without a query."""
    if not mask.any():
        return None
    found: dict[str, Any] = {"classes": len({probe.label for probe, its in zip(probes, mask, strict=True) if its})}
    for name, ranked in standings.items():
        scores = _evaluated(probes, mask, ranked, among)
        if not scores.queries:
            return None
        found["queries"] = scores.queries
        found[name] = {"recall@1": scores.recall[1], "map_at_r": scores.map_at_r}
    return found


def _evaluated(
    probes: Sequence[Probe], mask: NDArray[np.bool_], ranked: _Ranked, among: set[str] | None
) -> RetrievalScores:
    labels = ranked.standing.labels
    kept = np.flatnonzero([among is None or label in among for label in labels])
    codes = {label: code for code, label in enumerate(dict.fromkeys(probe.label for probe in probes))}
    place = np.full(len(labels) + 1, -1, dtype=np.int64)  # the last one answers for "not in the gallery"
    place[kept] = np.arange(len(kept))
    return evaluate_scores(
        ranked.scores[np.ix_(np.flatnonzero(mask), kept)],
        np.array([codes[probe.label] for probe, its in zip(probes, mask, strict=True) if its], dtype=np.int64),
        np.array([codes.get(str(labels[item]), -1) for item in kept], dtype=np.int64),
        own=place[ranked.own[mask]],
    )


def _flips(probes: Sequence[Probe], mask: NDArray[np.bool_], standings: Mapping[str, _Ranked]) -> list[dict[str, Any]]:
    """Images of old classes that are found at rank 1 now, and would not be."""
    best = {name: _best(ranked) for name, ranked in standings.items()}
    right = {
        name: np.array(
            [_label(standings[name], item) == probe.label for probe, item in zip(probes, items, strict=True)]
        )
        for name, items in best.items()
    }
    lost = negative_flips(right["before"] & mask, right["after"] | ~mask)
    return [
        {
            "image": str(probes[query].sample.path if probes[query].sample else probes[query].original),
            "label": probes[query].label,
            **{name: _hit(standings[name], query, int(best[name][query])) for name in standings},
        }
        for query in lost
    ]


def _best(ranked: _Ranked) -> NDArray[np.int64]:
    scores = ranked.scores.copy()
    inside = np.flatnonzero(ranked.own >= 0)
    scores[inside, ranked.own[inside]] = -np.inf
    best: NDArray[np.int64] = scores.argmax(axis=1)
    return best


def _label(ranked: _Ranked, item: int) -> str | None:
    return ranked.standing.labels[item]


def _hit(ranked: _Ranked, query: int, item: int) -> dict[str, Any]:
    return {
        "uri": ranked.standing.uris[item],
        "label": ranked.standing.labels[item],
        "score": round(float(probability(ranked.scores[query, item])), 4),
    }


def _retention(group: dict[str, Any] | None) -> float | None:
    """The lower share of recall@1 and mAP@R that is kept; a figure that is 0 now cannot be lost."""
    if group is None:
        return None
    return min(
        (group["after"][key] / group["before"][key] for key in ("recall@1", "map_at_r") if group["before"][key]),
        default=1.0,
    )


def _gain(group: dict[str, Any] | None) -> float | None:
    return None if group is None else float(group["after"]["recall@1"] - group["before"]["recall@1"])


def _reasons(figures: Mapping[str, float | None], options: GateOptions) -> list[str]:
    reasons = []
    kept, flips, gain = figures["old_retention"], figures["negative_flips"], figures["new_gain"]
    if kept is not None and kept < options.old_retention:
        reasons.append(f"old_retention {kept:.3f} < {options.old_retention:g}: old classes are found less well")
    if flips is not None and flips > options.negative_flips:
        reasons.append(f"negative_flips {flips:.3f} > {options.negative_flips:g}: old images found now would be lost")
    if gain is not None and gain < options.new_gain:
        reasons.append(f"new_gain {gain:+.3f} < {options.new_gain:g}: new classes are not found better than now")
    return reasons
