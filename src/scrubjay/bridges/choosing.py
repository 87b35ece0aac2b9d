"""Which bridge is best, by what retrieval gets over it.

Queries are pictures as the source network sees them, carried over the bridge; the gallery is what the target network
has made of others. Judged are the session's held-out pictures among those it was fitted on; classes of the session
that each bridge was fitted without, which stand for the old classes, of which no picture is there; and, where the
gallery's pictures can still be had, a sample of these. A bridge that is below the identity on any of these is out;
of the rest the best mean mAP@R wins, and of those that are as good (within 0.002) the simplest.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from scrubjay.bridges import KINDS, Bridge, Choice, Judged, changes_dimension, fit
from scrubjay.evaluation.retrieval import evaluate_query_gallery, evaluate_scores

FOLDS = 3
"""Parts into which the classes of a session are dealt."""
TIE = 0.002


def choose(fitted_on: Judged, held_out: Judged, extra: Mapping[str, Bridge], sample: Judged | None) -> Choice:
    """Fit all kinds on a session's pictures and keep the best.

    Args:
        fitted_on: the session's training pictures.
        held_out: its held-out pictures; may be none.
        extra: candidates that were fitted elsewhere, by name.
        sample: pictures of the gallery; may be of any class.

    Returns:
        The best, and the figures of all: `cosine` to the truth on the held-out pictures, and `map_at_r` and
        `recall@1` of each judgement that could be made, under `held_out`, `unseen_classes` and `gallery`.
    """
    same = fitted_on.source.shape[1] == fitted_on.target.shape[1]
    candidates = {
        kind: fit(kind, fitted_on.source, fitted_on.target) for kind in KINDS if same or changes_dimension(kind)
    }
    candidates |= extra
    figures = {name: _figures(name, bridge, fitted_on, held_out, sample) for name, bridge in candidates.items()}
    least = {key: value - 1e-9 for key, value in figures.get("identity", {}).items() if key.endswith("map_at_r")}
    able = [
        name
        for name, found in figures.items()
        if all(found[key] >= value for key, value in least.items() if key in found)
    ]
    best = max(_score(figures[name]) for name in able)
    chosen = next(name for name in candidates if name in able and _score(figures[name]) >= best - TIE)
    return Choice(candidates[chosen], figures)


def _figures(name: str, bridge: Bridge, fitted_on: Judged, held_out: Judged, sample: Judged | None) -> dict[str, float]:
    found: dict[str, float] = {}
    if len(held_out.labels):
        found |= _retrieval("held_out", bridge(held_out.source), held_out.labels, fitted_on)
        found["cosine"] = float(np.vecdot(bridge(held_out.source), held_out.target).mean())
    found |= _unseen(name, bridge, fitted_on)
    if sample is not None and len(sample.labels) > 1:
        found |= _among("gallery", bridge, sample)
    return found


def _unseen(name: str, bridge: Bridge, fitted_on: Judged) -> dict[str, float]:
    """On classes that the bridge was fitted without; a candidate that was fitted elsewhere is judged as it is."""
    classes = np.unique(fitted_on.labels)
    if len(classes) < FOLDS:
        return {}
    parts = [np.isin(fitted_on.labels, classes[fold::FOLDS]) for fold in range(FOLDS)]
    carried = np.zeros_like(fitted_on.target)
    for inside in parts:
        used = bridge if name not in KINDS else fit(name, *_pair(fitted_on.where(~inside)))
        carried[inside] = used(fitted_on.source[inside])
    scores = (
        np.vecdot(carried[:, None, :], fitted_on.target[None, :, :])
        if len(carried) < 64
        else carried @ fitted_on.target.T
    )
    return _ranked("unseen_classes", scores.astype(np.float64), fitted_on.labels)


def _among(name: str, bridge: Bridge, judged: Judged) -> dict[str, float]:
    return _ranked(name, (bridge(judged.source) @ judged.target.T).astype(np.float64), judged.labels)


def _ranked(name: str, scores: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, float]:
    """Every picture among the others."""
    found = evaluate_scores(scores, labels, labels, (1,), own=np.arange(len(labels)))
    return {f"{name} map_at_r": found.map_at_r, f"{name} recall@1": found.recall[1]} if found.queries else {}


def _retrieval(name: str, queries: NDArray[np.float32], labels: NDArray[np.int64], gallery: Judged) -> dict[str, float]:
    found = evaluate_query_gallery(queries, labels, gallery.target, gallery.labels, (1,))
    return {f"{name} map_at_r": found.map_at_r, f"{name} recall@1": found.recall[1]} if found.queries else {}


def _score(figures: Mapping[str, float]) -> float:
    values = [value for key, value in figures.items() if key.endswith("map_at_r")]
    return float(np.mean(values)) if values else 0.0


def _pair(judged: Judged) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return judged.source, judged.target
