"""Which bridge is best is measured on what it is for: old classes, of which the session has no picture.

mAP@R of the session's own classes does not tell. The new network has drawn them together, the old one has not, and
whatever leaves its vectors as they are, or only turns them, finds more of a class than the old network itself would;
for old classes it is the other way round. What tells is whether a picture, carried by a bridge that was fitted without
its class, finds *itself* among all pictures as the target network sees them: its reciprocal rank, which is high when
the map carries over to classes that it has not seen. `benchmarks/bridges.py` shows both beside what old classes get.

* Each kind at each strength is fitted to all classes but those of one part, which it then carries; three parts in turn.
  Items of the gallery that both networks could embed are fitted and judged with the session's pictures.
* A bridge that gets less mAP@R than the identity on the pictures held out, or on those of the gallery, is out.
* Where no item of the gallery was seen, only what stays near the identity is taken (`Kind.blind`): new classes, which
  were trained, move further than old ones, and a map that is right for them may carry old ones away, the more so over
  several generations. This does not hold between strangers, where most pictures do not find themselves without a map.
* Of the rest the highest mean reciprocal rank wins, over the session's pictures and the gallery's, each group counting
  the same. What is less by no more than `TIE` is as good, and of those that are as good the simplest is taken, and the
  one drawn most strongly to the identity: where all pictures find themselves without a bridge, there is none.
* A bridge from elsewhere has seen all classes. It is compared with that winner on pictures that neither was fitted to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrubjay.bridges._bridge import Bridge
from scrubjay.bridges._fitter import Vectors, fit_all, kind_of
from scrubjay.bridges._paired import ASKED, Figures, Judged, found, joined, reciprocal_ranks
from scrubjay.errors import DataError
from scrubjay.plugins import names

FOLDS = 3
"""Parts of the classes that are left out in turn."""
TIE = 0.005
"""A difference of mean reciprocal ranks that is none: one picture in a hundred that comes second instead of first."""

STRANGERS = 0.5
"""Mean reciprocal rank without a bridge, up to which two networks have nothing in common."""


@dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen, and why.

    Attributes:
        bridge: the best.
        figures: kind → of its best strength `map_at_r`, `recall@1` and `cosine` (to where the target network sees the
            picture) of pictures held out among those fitted to; `left_out_…`: of pictures whose class the bridge was
            fitted without, among all, with `left_out_mrr`, the mean reciprocal rank of the picture itself;
            `sample_…`: of the gallery's items among themselves, likewise left out; `strength`. Where nothing was held
            out, the plain names are the figures of the classes left out.
    """

    bridge: Bridge
    figures: dict[str, Figures]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """One kind at one strength: the bridge fitted to everything, and how it did.

    Attributes:
        name: of the kind.
        bridge: fitted to everything.
        figures: see `Choice`.
        score: mean reciprocal rank, of the pictures left out; 0 where there is but one class.
    """

    name: str
    bridge: Bridge
    figures: Figures
    score: float


@dataclass(frozen=True, eq=False)
class _Pictures:
    """What is fitted to and what judges.

    Attributes:
        fitted: the session's pictures.
        pool: those and the gallery's.
        folded: of these, as many as are left out in turn.
        own: bool (N,), which of `folded` are the session's.
        held: the session's pictures that nothing is fitted to.
        sample: the gallery's.
    """

    fitted: Judged
    pool: Judged
    folded: Judged
    own: NDArray[np.bool_]
    held: Judged
    sample: Judged


def choose(
    fit: Judged, held: Judged, *, extra: Mapping[str, Bridge] | None = None, sample: Judged | None = None
) -> Choice:
    """Fit every kind of bridge, and take the one that is best for classes it was not fitted to.

    Args:
        fit: pictures of the new classes.
        held: others of these classes; there may be none.
        extra: bridges from elsewhere, by name.
        sample: items of the gallery, with labels of their own: equal numbers in `fit` mean nothing.

    Raises:
        DataError: there is no picture to fit to.
    """
    if not len(fit.labels):
        raise DataError("bridges: no picture to fit them to; give some that both networks have seen.")
    pictures = _pictures(fit, held, sample)
    candidates = [candidate for name in _kinds(fit) for candidate in _candidates(name, pictures)]
    plain = candidates[0].figures if candidates[0].name == "identity" else {}
    related = candidates[0].name == "identity" and candidates[0].score > STRANGERS
    blind = [each for each in candidates if each.figures["strength"] >= kind_of(each.name).blind]
    best = {name: _best(_of(candidates, name), plain) for name in dict.fromkeys(each.name for each in candidates)}
    winner = _best(blind if related and pictures.own.all() else candidates, plain)
    figures = {name: candidate.figures for name, candidate in best.items()} | {winner.name: winner.figures}
    bridge = winner.bridge
    for name, given in (extra or {}).items():
        figures[name] = _unfitted(given, pictures)
        if _allowed(figures[name], plain) and _beats(given, bridge, pictures):
            bridge = given
    return Choice(bridge, figures)


def _pictures(fit: Judged, held: Judged, sample: Judged | None) -> _Pictures:
    sample = fit.where(np.zeros(len(fit.labels), dtype=bool)) if sample is None else sample
    own, others = fit.some(ASKED), sample.some(ASKED)
    folded = joined(own, others)
    return _Pictures(fit, joined(fit, sample), folded, np.arange(len(folded.labels)) < len(own.labels), held, others)


def _kinds(pictures: Judged) -> list[str]:
    """Names of the kinds that can be fitted, the simplest first."""
    same = pictures.source.shape[1] == pictures.target.shape[1]
    kinds = {name: kind_of(name) for name in names("bridges")}
    return sorted((name for name, kind in kinds.items() if same or kind.resizes), key=lambda name: kinds[name].rank)


def _candidates(name: str, pictures: _Pictures) -> list[_Candidate]:
    """A kind at all its strengths, the strongest first."""
    strengths = kind_of(name).strengths
    bridges = fit_all(name, pictures.pool.source, pictures.pool.target, strengths)
    carried = _left_out(name, strengths, pictures.folded)
    return [
        _candidate(name, bridge, strength, vectors, pictures)
        for bridge, strength, vectors in zip(bridges, strengths, carried, strict=True)
    ]


def _left_out(name: str, strengths: tuple[float, ...], pictures: Judged) -> list[Vectors]:
    """Pictures, carried by bridges that were fitted without their classes; nothing where there is but one class."""
    carried = [np.zeros_like(pictures.target) for _ in strengths]
    parts = list(_folds(pictures.labels))
    for rows in parts:
        kept = pictures.where(~rows)
        for vectors, bridge in zip(carried, fit_all(name, kept.source, kept.target, strengths), strict=True):
            vectors[rows] = bridge(pictures.source[rows])
    return carried if parts else [vectors[:0] for vectors in carried]


def _folds(labels: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """Which pictures are left out: each once, with all others of its class."""
    known, place = np.unique(labels, return_inverse=True)
    number = min(FOLDS, len(known))
    for part in range(number if number > 1 else 0):
        yield place % number == part


def _candidate(name: str, bridge: Bridge, strength: float, carried: Vectors, pictures: _Pictures) -> _Candidate:
    """How one bridge did; `carried` (N, d') are the pictures left out, or none of them."""
    figures: Figures = {"strength": strength}
    scores = []
    for prefix, rows in (("left_out_", pictures.own), ("sample_", ~pictures.own)):
        if len(carried) and rows.any():
            target = pictures.folded.target
            scores.append(float(reciprocal_ranks(carried[rows], target[rows], target).mean()))
            figures |= _named(prefix, found(carried[rows], pictures.folded.where(rows)) | {"mrr": scores[-1]})
    plain = {name.removeprefix("left_out_"): value for name, value in figures.items() if name.startswith("left_out_")}
    plain.pop("mrr", None)
    held = found(bridge(pictures.held.source), pictures.held, pictures.fitted)
    return _Candidate(name, bridge, figures | (held or plain), float(np.mean(scores)) if scores else 0.0)


def _unfitted(bridge: Bridge, pictures: _Pictures) -> Figures:
    """Figures of a bridge from elsewhere."""
    held = found(bridge(pictures.held.source), pictures.held, pictures.fitted)
    return held | _named("sample_", found(bridge(pictures.sample.source), pictures.sample))


def _named(prefix: str, figures: Figures) -> Figures:
    return {f"{prefix}{name}": value for name, value in figures.items()}


def _of(candidates: list[_Candidate], name: str) -> list[_Candidate]:
    return [candidate for candidate in candidates if candidate.name == name]


def _best(candidates: list[_Candidate], plain: Figures) -> _Candidate:
    """The first that is as good as the best of those that are allowed; where none is, of all."""
    allowed = [each for each in candidates if _allowed(each.figures, plain)] or candidates
    highest = max(each.score for each in allowed)
    return next(each for each in allowed if each.score >= highest - TIE)


def _allowed(figures: Figures, plain: Figures) -> bool:
    """Whether a bridge is nowhere below the identity."""
    judges = [name for name in ("map_at_r", "sample_map_at_r") if name in plain and name in figures]
    return all(figures[name] >= plain[name] for name in judges)


def _beats(given: Bridge, bridge: Bridge, pictures: _Pictures) -> bool:
    """Whether a bridge from elsewhere is clearly better on the pictures held out."""
    held = pictures.held
    if not len(held.labels):
        return False
    gallery = np.concatenate([held.target, pictures.fitted.target])
    theirs, ours = (reciprocal_ranks(each(held.source), held.target, gallery).mean() for each in (given, bridge))
    return bool(theirs > ours + TIE)
