"""Which bridge is best is measured on what it is for: old classes, of which the session has no image.

mAP@R of the session's own classes does not tell. The new network has drawn them together, the old one has not, and
whatever leaves its vectors as they are, or only turns them, finds more of a class than the old network itself would;
for old classes it is the other way round. What tells is whether an image, carried by a bridge that was fitted without
its class, finds *itself* among all images as the target network sees them: its reciprocal rank, which is high when
the map carries over to classes that it has not seen. `benchmarks/bridges.py` shows both beside what old classes get.

* Each kind at each strength is fitted to all classes but those of one part, which it then carries; three parts in turn.
  Items of the gallery that both networks could embed are fitted and judged with the session's images.
* A bridge that gets less mAP@R than the identity on the images held out, or on those of the gallery, is out.
* Where no item of the gallery was seen, only what stays near the identity is taken (`Kind.blind`): new classes, which
  were trained, move further than old ones, and a map that is right for them may carry old ones away, the more so over
  several generations. This does not hold between strangers, where most images do not find themselves without a map.
* Of the rest the highest mean reciprocal rank wins, over the session's images and the gallery's, each group counting
  the same. What is less by no more than `TIE` is as good, and of those that are as good the simplest is taken, and the
  one drawn most strongly to the identity: where all images find themselves without a bridge, there is none.
* A bridge from elsewhere has seen all classes. It is compared with that winner on images that neither was fitted to.
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
"""A difference of mean reciprocal ranks that is none: one image in a hundred that comes second instead of first."""

STRANGERS = 0.5
"""Mean reciprocal rank without a bridge, up to which two networks have nothing in common."""


@dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen, and why.

    Attributes:
        bridge: the best.
        figures: kind → of its best strength `map_at_r`, `recall@1` and `cosine` (to where the target network sees the
            image) of images held out among those fitted to; `left_out_…`: of images whose class the bridge was
            fitted without, among all, with `left_out_mrr`, the mean reciprocal rank of the image itself;
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
        score: mean reciprocal rank, of the images left out; 0 where there is but one class.
    """

    name: str
    bridge: Bridge
    figures: Figures
    score: float


@dataclass(frozen=True, eq=False)
class _Images:
    """What is fitted to and what judges.

    Attributes:
        fitted: the session's images.
        pool: those and the gallery's.
        folded: of these, as many as are left out in turn.
        own: bool (N,), which of `folded` are the session's.
        held: the session's images that nothing is fitted to.
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
        fit: images of the new classes.
        held: others of these classes; there may be none.
        extra: bridges from elsewhere, by name.
        sample: items of the gallery, with labels of their own: equal numbers in `fit` mean nothing.

    Raises:
        DataError: there is no image to fit to.
    """
    if not len(fit.labels):
        raise DataError("bridges: no image to fit them to; give some that both networks have seen.")
    images = _images(fit, held, sample)
    candidates = [candidate for name in _kinds(fit) for candidate in _candidates(name, images)]
    plain = candidates[0].figures if candidates[0].name == "identity" else {}
    related = candidates[0].name == "identity" and candidates[0].score > STRANGERS
    blind = [each for each in candidates if each.figures["strength"] >= kind_of(each.name).blind]
    best = {name: _best(_of(candidates, name), plain) for name in dict.fromkeys(each.name for each in candidates)}
    winner = _best(blind if related and images.own.all() else candidates, plain)
    figures = {name: candidate.figures for name, candidate in best.items()} | {winner.name: winner.figures}
    bridge = winner.bridge
    for name, given in (extra or {}).items():
        figures[name] = _unfitted(given, images)
        if _allowed(figures[name], plain) and _beats(given, bridge, images):
            bridge = given
    return Choice(bridge, figures)


def _images(fit: Judged, held: Judged, sample: Judged | None) -> _Images:
    sample = fit.where(np.zeros(len(fit.labels), dtype=bool)) if sample is None else sample
    own, others = fit.some(ASKED), sample.some(ASKED)
    folded = joined(own, others)
    return _Images(fit, joined(fit, sample), folded, np.arange(len(folded.labels)) < len(own.labels), held, others)


def _kinds(images: Judged) -> list[str]:
    """Names of the kinds that can be fitted, the simplest first."""
    same = images.source.shape[1] == images.target.shape[1]
    kinds = {name: kind_of(name) for name in names("bridges")}
    return sorted((name for name, kind in kinds.items() if same or kind.resizes), key=lambda name: kinds[name].rank)


def _candidates(name: str, images: _Images) -> list[_Candidate]:
    """A kind at all its strengths, the strongest first."""
    strengths = kind_of(name).strengths
    bridges = fit_all(name, images.pool.source, images.pool.target, strengths)
    carried = _left_out(name, strengths, images.folded)
    return [
        _candidate(name, bridge, strength, vectors, images)
        for bridge, strength, vectors in zip(bridges, strengths, carried, strict=True)
    ]


def _left_out(name: str, strengths: tuple[float, ...], images: Judged) -> list[Vectors]:
    """Images, carried by bridges that were fitted without their classes; nothing where there is but one class."""
    carried = [np.zeros_like(images.target) for _ in strengths]
    parts = list(_folds(images.labels))
    for rows in parts:
        kept = images.where(~rows)
        for vectors, bridge in zip(carried, fit_all(name, kept.source, kept.target, strengths), strict=True):
            vectors[rows] = bridge(images.source[rows])
    return carried if parts else [vectors[:0] for vectors in carried]


def _folds(labels: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """Which images are left out: each once, with all others of its class."""
    known, place = np.unique(labels, return_inverse=True)
    number = min(FOLDS, len(known))
    for part in range(number if number > 1 else 0):
        yield place % number == part


def _candidate(name: str, bridge: Bridge, strength: float, carried: Vectors, images: _Images) -> _Candidate:
    """How one bridge did; `carried` (N, d') are the images left out, or none of them."""
    figures: Figures = {"strength": strength}
    scores = []
    for prefix, rows in (("left_out_", images.own), ("sample_", ~images.own)):
        if len(carried) and rows.any():
            target = images.folded.target
            scores.append(float(reciprocal_ranks(carried[rows], target[rows], target).mean()))
            figures |= _named(prefix, found(carried[rows], images.folded.where(rows)) | {"mrr": scores[-1]})
    plain = {name.removeprefix("left_out_"): value for name, value in figures.items() if name.startswith("left_out_")}
    plain.pop("mrr", None)
    held = found(bridge(images.held.source), images.held, images.fitted)
    return _Candidate(name, bridge, figures | (held or plain), float(np.mean(scores)) if scores else 0.0)


def _unfitted(bridge: Bridge, images: _Images) -> Figures:
    """Figures of a bridge from elsewhere."""
    held = found(bridge(images.held.source), images.held, images.fitted)
    return held | _named("sample_", found(bridge(images.sample.source), images.sample))


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


def _beats(given: Bridge, bridge: Bridge, images: _Images) -> bool:
    """Whether a bridge from elsewhere is clearly better on the images held out."""
    held = images.held
    if not len(held.labels):
        return False
    gallery = np.concatenate([held.target, images.fitted.target])
    theirs, ours = (reciprocal_ranks(each(held.source), held.target, gallery).mean() for each in (given, bridge))
    return bool(theirs > ours + TIE)
