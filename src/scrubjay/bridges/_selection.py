"""Selection of the best bridge for old classes, of which the session has no training image.

mAP@R on the session's own classes is no criterion: the new network was trained to cluster them, the old one was not,
so a map that leaves the new vectors unchanged, or only rotates them, retrieves these classes better than the old
network itself would. For old classes it is the other way round. The criterion is whether a map generalises to classes
it was not fitted to: each image is mapped by a bridge that was fitted without its class, and retrieves *itself* among
the target network's embeddings of all images; its reciprocal rank is averaged. `benchmarks/studies/bridges.py` shows
both measures beside the figures of old classes.

* Cross-validation over classes: each kind at each strength is fitted to the classes outside one of three folds, and
  maps the images of that fold. Items of the gallery that both networks could embed are fitted and evaluated with the
  session's images.
* A bridge with a lower mAP@R than the identity on the held-out images, or on the gallery's items, is excluded.
* Without items of the gallery only strongly regularised bridges are admitted
  (`BridgeFitter.min_strength_without_gallery`): new classes, which were trained, move further than old ones, and a map
  that fits them may displace old classes, the more so over several generations. This rule does not apply to unrelated
  networks, between which most images do not retrieve themselves without a map.
* Among the remaining bridges the highest mean reciprocal rank wins; the session's images and the gallery's items have
  equal weight. Bridges within `TIE` of the highest are ties, which go to the simplest kind and the strongest
  regularisation: where all images retrieve themselves without a bridge, the identity is selected.
* A bridge that was learned elsewhere, on all classes, is compared with the winner on images to which neither was
  fitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrubjay.bridges._bridge import Bridge
from scrubjay.bridges._fitter import Vectors, fit_all, fitter
from scrubjay.bridges._paired import MAX_QUERIES, Figures, PairedEmbeddings, joined, reciprocal_ranks, retrieval_scores
from scrubjay.errors import DataError
from scrubjay.plugins import names

FOLDS = 3
"""Folds of the classes in the cross-validation."""
TIE = 0.005
"""Largest difference of mean reciprocal ranks that counts as a tie: one image in a hundred at rank 2 instead of 1."""

UNRELATED = 0.5
"""Two networks count as unrelated if the mean reciprocal rank without a bridge is not above this."""


@dataclass(frozen=True, eq=False)
class Choice:
    """The selected bridge, and the figures of all kinds.

    Attributes:
        bridge: the selected bridge.
        figures: for each kind at its best strength: `strength`; `map_at_r`, `recall@1` and `cosine` (of the mapped
            vector to the target network's vector) of held-out images that search the images fitted to; `left_out_…`:
            the same of images mapped without their class in the fit, which search all images, and `left_out_mrr`, the
            mean reciprocal rank of the image itself; `sample_…`: the same of the gallery's items among themselves.
            Without held-out images the names without prefix hold the `left_out_…` figures.
    """

    bridge: Bridge
    figures: dict[str, Figures]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """One kind of bridge at one strength.

    Attributes:
        name: name of the kind.
        bridge: the bridge fitted to all images.
        figures: see `Choice`.
        score: mean reciprocal rank in the cross-validation; 0 if there is only one class.
    """

    name: str
    bridge: Bridge
    figures: Figures
    score: float


@dataclass(frozen=True, eq=False)
class _Images:
    """The images for fitting and for evaluating bridges.

    Attributes:
        fitted: the session's training images.
        pool: these and the gallery's items.
        folded: the images of the cross-validation: at most `MAX_QUERIES` of each group.
        own: bool (N,), which of `folded` are the session's images.
        held: the session's held-out images, to which no bridge is fitted.
        sample: the gallery's items, at most `MAX_QUERIES`.
    """

    fitted: PairedEmbeddings
    pool: PairedEmbeddings
    folded: PairedEmbeddings
    own: NDArray[np.bool_]
    held: PairedEmbeddings
    sample: PairedEmbeddings


def choose(
    fit: PairedEmbeddings,
    held: PairedEmbeddings,
    *,
    extra: Mapping[str, Bridge] | None = None,
    sample: PairedEmbeddings | None = None,
) -> Choice:
    """Fit every kind of bridge, and select the one that generalises best to classes it was not fitted to.

    Args:
        fit: training images of the new classes.
        held: held-out images of these classes; may be empty.
        extra: bridges that were learned elsewhere, by name.
        sample: items of the gallery; their labels are unrelated to those of `fit`.

    Raises:
        DataError: there is no image to fit to.
    """
    if not len(fit.labels):
        raise DataError("bridges: no image to fit them to; give some that both networks have embedded.")
    images = _images(fit, held, sample)
    candidates = [candidate for name in _kinds(fit) for candidate in _candidates(name, images)]
    identity = candidates[0].figures if candidates[0].name == "identity" else {}
    related = candidates[0].name == "identity" and candidates[0].score > UNRELATED
    admitted = candidates
    if related and images.own.all():  # no item of the gallery
        admitted = [
            candidate
            for candidate in candidates
            if candidate.figures["strength"] >= fitter(candidate.name).min_strength_without_gallery
        ]
    kinds = dict.fromkeys(candidate.name for candidate in candidates)
    best = {name: _best(_of(candidates, name), identity) for name in kinds}
    winner = _best(admitted, identity)
    figures = {name: candidate.figures for name, candidate in best.items()} | {winner.name: winner.figures}
    bridge = winner.bridge
    for name, given in (extra or {}).items():
        figures[name] = _figures_of_given(given, images)
        if _allowed(figures[name], identity) and _beats(given, bridge, images):
            bridge = given
    return Choice(bridge, figures)


def _images(fit: PairedEmbeddings, held: PairedEmbeddings, sample: PairedEmbeddings | None) -> _Images:
    sample = fit.where(np.zeros(len(fit.labels), dtype=bool)) if sample is None else sample
    own, items = fit.some(MAX_QUERIES), sample.some(MAX_QUERIES)
    folded = joined(own, items)
    return _Images(fit, joined(fit, sample), folded, np.arange(len(folded.labels)) < len(own.labels), held, items)


def _kinds(images: PairedEmbeddings) -> list[str]:
    """Names of the kinds that can be fitted to these dimensions, the simplest first."""
    same_dim = images.source.shape[1] == images.target.shape[1]
    fitters = {name: fitter(name) for name in names("bridges")}
    usable = (name for name, candidate in fitters.items() if same_dim or candidate.resizes)
    return sorted(usable, key=lambda name: fitters[name].rank)


def _candidates(name: str, images: _Images) -> list[_Candidate]:
    """One kind at all its strengths, the strongest first."""
    strengths = fitter(name).strengths
    bridges = fit_all(name, images.pool.source, images.pool.target, strengths)
    mapped = _cross_validated(name, strengths, images.folded)
    return [
        _candidate(name, bridge, strength, vectors, images)
        for bridge, strength, vectors in zip(bridges, strengths, mapped, strict=True)
    ]


def _cross_validated(name: str, strengths: tuple[float, ...], images: PairedEmbeddings) -> list[Vectors]:
    """For each strength the images mapped by bridges fitted without their classes; empty if there is only one class."""
    mapped = [np.zeros_like(images.target) for _ in strengths]
    folds = list(_folds(images.labels))
    for rows in folds:
        others = images.where(~rows)
        for vectors, bridge in zip(mapped, fit_all(name, others.source, others.target, strengths), strict=True):
            vectors[rows] = bridge(images.source[rows])
    return mapped if folds else [vectors[:0] for vectors in mapped]


def _folds(labels: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """Masks of the images left out in each fold: every class is left out once, as a whole."""
    classes, position = np.unique(labels, return_inverse=True)
    number = min(FOLDS, len(classes))
    if number > 1:
        for fold in range(number):
            yield position % number == fold


def _candidate(name: str, bridge: Bridge, strength: float, mapped: Vectors, images: _Images) -> _Candidate:
    """Evaluate one bridge; `mapped` (N, d') are the images of the cross-validation, or empty."""
    figures: Figures = {"strength": strength}
    scores = []
    for prefix, rows in (("left_out_", images.own), ("sample_", ~images.own)):
        if len(mapped) and rows.any():
            target = images.folded.target
            scores.append(float(reciprocal_ranks(mapped[rows], target[rows], target).mean()))
            retrieved = retrieval_scores(mapped[rows], images.folded.where(rows))
            figures |= _named(prefix, retrieved | {"mrr": scores[-1]})
    left_out = {key.removeprefix("left_out_"): value for key, value in figures.items() if key.startswith("left_out_")}
    left_out.pop("mrr", None)
    held = retrieval_scores(bridge(images.held.source), images.held, images.fitted)
    return _Candidate(name, bridge, figures | (held or left_out), float(np.mean(scores)) if scores else 0.0)


def _figures_of_given(bridge: Bridge, images: _Images) -> Figures:
    """Figures of a bridge that was learned elsewhere."""
    held = retrieval_scores(bridge(images.held.source), images.held, images.fitted)
    return held | _named("sample_", retrieval_scores(bridge(images.sample.source), images.sample))


def _named(prefix: str, figures: Figures) -> Figures:
    return {f"{prefix}{name}": value for name, value in figures.items()}


def _of(candidates: list[_Candidate], name: str) -> list[_Candidate]:
    return [candidate for candidate in candidates if candidate.name == name]


def _best(candidates: list[_Candidate], identity: Figures) -> _Candidate:
    """The first candidate within `TIE` of the best allowed one; if none is allowed, of the best of all."""
    allowed = [candidate for candidate in candidates if _allowed(candidate.figures, identity)] or candidates
    highest = max(candidate.score for candidate in allowed)
    return next(candidate for candidate in allowed if candidate.score >= highest - TIE)


def _allowed(figures: Figures, identity: Figures) -> bool:
    """Whether no mAP@R of a bridge is below that of the identity."""
    compared = [name for name in ("map_at_r", "sample_map_at_r") if name in identity and name in figures]
    return all(figures[name] >= identity[name] for name in compared)


def _beats(given: Bridge, selected: Bridge, images: _Images) -> bool:
    """Whether a bridge learned elsewhere is better than the selected one on the held-out images by more than `TIE`."""
    held = images.held
    if not len(held.labels):
        return False
    gallery = np.concatenate([held.target, images.fitted.target])
    rank_given, rank_selected = (
        reciprocal_ranks(bridge(held.source), held.target, gallery).mean() for bridge in (given, selected)
    )
    return bool(rank_given > rank_selected + TIE)
