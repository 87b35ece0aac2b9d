"""Which bridge is best is measured: how much of what they look for do carried vectors find?

Three groups of pictures judge, each where there are such pictures:

* held out: pictures of the new classes that no bridge was fitted to, searched among those that it was fitted to;
* left out: pictures of the new classes, each carried by a bridge that was fitted without its class, searched among all.
  A bridge is needed for *old* classes, of which no picture is at hand: this is what it does to classes that it has not
  seen;
* sample: items of the gallery that both networks could embed, searched among themselves, each without itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrubjay.bridges._bridge import Bridge, unit
from scrubjay.bridges._kind import Vectors, fit, kind_of
from scrubjay.errors import DataError
from scrubjay.evaluation.ranks import relevant_ranks
from scrubjay.plugins import names

FOLDS = 3
"""Parts of the classes that are left out in turn."""
ASKED = 1000
"""Pictures of a group that are searched for, at most."""
TIE = 1e-6
"""A difference in the figure that is none."""

Figures = dict[str, float]


@dataclass(frozen=True, eq=False)
class Judged:
    """The same pictures seen by two networks.

    Attributes:
        source: float32 (N, d), unit rows.
        target: float32 (N, d'), unit rows.
        labels: int64 (N,).
    """

    source: Vectors
    target: Vectors
    labels: NDArray[np.int64]

    def reversed(self) -> Judged:
        """The way back: source and target swapped."""
        return Judged(self.target, self.source, self.labels)

    def where(self, rows: NDArray[np.bool_]) -> Judged:
        """Some of the pictures."""
        return Judged(self.source[rows], self.target[rows], self.labels[rows])


@dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen, and why.

    Attributes:
        bridge: the best.
        figures: kind → `map_at_r`, `recall@1` and `cosine` (mean, to where the other network sees the picture) of the
            pictures held out; `left_out_…` and `sample_…`: the same of the other two groups.
    """

    bridge: Bridge
    figures: dict[str, Figures]


def choose(
    fit: Judged, held: Judged, *, extra: Mapping[str, Bridge] | None = None, sample: Judged | None = None
) -> Choice:
    """Fit every kind of bridge, and take the one by which most is found.

    What counts is the mean mAP@R over the groups that judge. What is below the identity in any of them is not taken;
    a tie goes to the simpler.

    Args:
        fit: pictures of the new classes that bridges are fitted to.
        held: others of these classes; there may be none.
        extra: bridges from elsewhere, by name.
        sample: items of the gallery.

    Raises:
        DataError: there is no picture to fit to.
    """
    if not len(fit.labels):
        raise DataError("bridges: no picture to fit them to; give some that both networks have seen.")
    candidates = {name: _fitted(name, fit) for name in _kinds(fit)}
    figures = {name: left_out for name, (_, left_out) in candidates.items()}
    bridges = {**{name: bridge for name, (bridge, _) in candidates.items()}, **(extra or {})}
    for name, bridge in bridges.items():
        figures[name] = {
            **_search(bridge, held, fit),
            **figures.get(name, {}),
            **({} if sample is None else _search(bridge, sample, None, "sample_")),
        }
    return Choice(bridges[_best(figures)], figures)


def _kinds(fit: Judged) -> list[str]:
    """Names of the kinds that can be fitted, the simplest first."""
    same = fit.source.shape[1] == fit.target.shape[1]
    found = {name: kind_of(name) for name in names("bridges")}
    return sorted((name for name, kind in found.items() if same or kind.resizes), key=lambda name: found[name].rank)


def _fitted(name: str, pictures: Judged) -> tuple[Bridge, Figures]:
    """A bridge of one kind, of the strength that is best for classes left out, and its figures there."""
    tried = {strength: _left_out(name, strength, pictures) for strength in kind_of(name).strengths}
    strength = max(tried, key=lambda each: tried[each].get("left_out_map_at_r", 0.0))
    return fit(name, pictures.source, pictures.target, strength), tried[strength]


def _left_out(name: str, strength: float, pictures: Judged) -> Figures:
    """Figures of pictures whose classes a bridge was not fitted to; none where there is but one class."""
    carried: Vectors = np.zeros_like(pictures.target)
    for rows in _folds(pictures.labels):
        kept = pictures.where(~rows)
        carried[rows] = fit(name, kept.source, kept.target, strength)(pictures.source[rows])
    if len(np.unique(pictures.labels)) < 2:
        return {}
    return _figures(carried, pictures, None, "left_out_")


def _folds(labels: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """Which pictures are left out: each once, with all others of its class."""
    known, place = np.unique(labels, return_inverse=True)
    number = min(FOLDS, len(known))
    for fold in range(number if number > 1 else 0):
        yield place % number == fold


def _search(bridge: Bridge, asked: Judged, gallery: Judged | None, prefix: str = "") -> Figures:
    if not len(asked.labels):
        return {}
    return _figures(bridge(asked.source), asked, gallery, prefix)


def _figures(carried: Vectors, asked: Judged, gallery: Judged | None, prefix: str) -> Figures:
    """mAP@R, recall@1 and mean cosine of carried vectors, searched in a gallery or among the targets of all others."""
    rows = np.linspace(0, len(carried) - 1, min(ASKED, len(carried))).round().astype(np.int64)
    found = asked if gallery is None else gallery
    own = rows if gallery is None else None
    blocks = relevant_ranks(unit(carried[rows]), asked.labels[rows], unit(found.target), found.labels, own=own)
    precision, first = [], []
    for block in blocks:
        ends = np.cumsum(block.counts)
        for ranks, relevant in zip(np.split(block.ranks, ends[:-1]), block.counts, strict=True):
            within = ranks[ranks <= relevant]
            precision.append(float((np.arange(1, len(within) + 1) / within).sum() / relevant))
            first.append(float(ranks[0] == 1))
    if not precision:
        return {}
    cosine = np.einsum("ij,ij->i", carried.astype(np.float64), asked.target).mean()
    figures = {"map_at_r": np.mean(precision), "recall@1": np.mean(first), "cosine": cosine}
    return {f"{prefix}{name}": float(value) for name, value in figures.items()}


def _best(figures: dict[str, Figures]) -> str:
    """The first of the best names."""
    plain = figures.get("identity", {})
    safe = [name for name in figures if _never_below(figures[name], plain)]
    score = {name: _score(figures[name]) for name in safe or figures}
    return next(name for name in score if score[name] >= max(score.values()) - TIE)


def _never_below(figures: Figures, plain: Figures) -> bool:
    judged = [name for name in plain if name.endswith("map_at_r")]
    return all(figures.get(name, plain[name]) >= plain[name] for name in judged)


def _score(figures: Figures) -> float:
    judged = [value for name, value in figures.items() if name.endswith("map_at_r")]
    return float(np.mean(judged)) if judged else 0.0
