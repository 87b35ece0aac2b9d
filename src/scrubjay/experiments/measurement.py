"""What a generation is worth on a stream: embeddings of its test images and of the gallery, and all figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scrubjay.data.stream import Stream
from scrubjay.evaluation import continual
from scrubjay.evaluation.class_means import class_mean_accuracy
from scrubjay.evaluation.retrieval import GroupScores, RetrievalScores, evaluate_groups, evaluate_query_gallery
from scrubjay.models.checkpoint import load_tensors, save_tensors
from scrubjay.types import Embeddings, Sample

KS = (1, 2, 4, 8)
METRICS = (*(f"recall@{k}" for k in KS), "map_at_r")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one generation sees.

    Attributes:
        test: the test images of all classes, those of later sessions and unseen ones too.
        gallery: the training images of the classes it has learned.
    """

    test: Embeddings
    gallery: Embeddings

    def save(self, path: Path) -> None:
        """Write both, whole or not at all."""
        tensors, info = {}, {}
        for part in ("test", "gallery"):
            embeddings = getattr(self, part)
            for name in ("vectors", "labels", "indices"):
                tensors[f"{part}.{name}"] = torch.from_numpy(getattr(embeddings, name))
            info[part] = {"fingerprint": embeddings.fingerprint, "failures": embeddings.failures}
        save_tensors(path, tensors, info)

    @classmethod
    def load(cls, path: Path) -> Measured:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is damaged.
        """
        tensors, info = load_tensors(path, "delete it, and it is measured again")
        parts = {
            part: Embeddings(
                **{name: tensors[f"{part}.{name}"].numpy() for name in ("vectors", "labels", "indices")},
                fingerprint=info[part]["fingerprint"],
                failures=tuple((failed, reason) for failed, reason in info[part]["failures"]),
            )
            for part in ("test", "gallery")
        }
        return cls(**parts)


def test_samples(stream: Stream) -> list[Sample]:
    """Test images of all sessions, then of the unseen classes."""
    return [*(sample for session in stream.sessions for sample in session.test), *stream.unseen]


def gallery_samples(stream: Stream, step: int) -> list[Sample]:
    """Training images of the sessions up to `step`: the gallery of the query–gallery protocol."""
    return [sample for session in stream.sessions[: step + 1] for sample in session.train]


def groups(embeddings: Embeddings, stream: Stream, step: int) -> GroupScores:
    """Test images among themselves, by group, after session `step` (0-based)."""
    queries, galleries = _flags(embeddings, stream)
    return evaluate_groups(
        embeddings.vectors,
        embeddings.labels,
        [session.labels for session in stream.sessions],
        step,
        KS,
        query_mask=queries,
        gallery_mask=galleries,
    )


def group_figures(scores: GroupScores) -> dict[str, Any]:
    """The groups of a result; a group that has no query is None."""
    return {name: _figures(getattr(scores, name)) for name in ("old", "new", "seen", "unseen")}


def accuracy(scores: Sequence[GroupScores]) -> dict[str, list[list[float | None]]]:
    """a[t][j] by metric: score on session j's classes after learning session t."""
    return {metric: [[_value(each, metric) for each in step.sessions] for step in scores] for metric in METRICS}


def compatibility(measured: Sequence[Measured], stream: Stream) -> dict[str, list[list[float | None]]]:
    """C[t][k] by metric: test images embedded by generation t query the gallery of generation k ≤ t.

    The gallery holds the training images of the classes that generation k has learned; the queries are the test
    images of these classes that may be queries.
    """
    return _cross(measured, stream, lambda newer, older: older.gallery)


def reindex(measured: Sequence[Measured], stream: Stream) -> dict[str, list[list[float | None]]]:
    """R[t][k] by metric: as C[t][k], with the same gallery embedded anew by generation t. R[t][t] is C[t][t]."""

    def embedded_anew(newer: Measured, older: Measured) -> Embeddings:
        known = np.isin(newer.gallery.labels, older.gallery.labels)
        parts = {name: getattr(newer.gallery, name)[known] for name in ("vectors", "labels", "indices")}
        return replace(newer.gallery, **parts)

    return _cross(measured, stream, embedded_anew)


def _cross(
    measured: Sequence[Measured], stream: Stream, gallery_of: Callable[[Measured, Measured], Embeddings]
) -> dict[str, list[list[float | None]]]:
    size = len(measured)
    matrices: dict[str, list[list[float | None]]] = {metric: [[None] * size for _ in range(size)] for metric in METRICS}
    for t, newer in enumerate(measured):
        may_ask, _ = _flags(newer.test, stream)
        for k, older in enumerate(measured[: t + 1]):
            asked = may_ask & (newer.test.labels < stream.sessions[k].labels.stop)
            gallery = gallery_of(newer, older)
            if not asked.any() or not len(gallery.labels):
                continue
            scores = evaluate_query_gallery(
                newer.test.vectors[asked], newer.test.labels[asked], gallery.vectors, gallery.labels, KS
            )
            for metric in METRICS:
                matrices[metric][t][k] = _value(scores, metric)
    return matrices


def summaries(
    a: dict[str, list[list[float | None]]], before: dict[str, list[float | None]]
) -> dict[str, dict[str, float | None]]:
    """Forgetting and its relatives, by metric; `before` is the score of each session before any training."""
    result = {}
    for metric, matrix in a.items():
        scores, start = _array(matrix), _array(before[metric])
        result[metric] = {
            "average": _finite(continual.average(scores)),
            "average_incremental": _finite(continual.average_incremental(scores)),
            "forgetting": _finite(continual.forgetting(scores)),
            "backward_transfer": _finite(continual.backward_transfer(scores)),
            "forward_transfer": _finite(continual.forward_transfer(scores, start)),
        }
    return result


def figures(
    scores: Sequence[GroupScores],
    measured: Sequence[Measured],
    stream: Stream,
    before: dict[str, list[float | None]],
) -> dict[str, Any]:
    """All figures of a run, under the keys of `result.json`."""
    a = accuracy(scores)
    return {
        "groups": [group_figures(each) for each in scores],
        "accuracy": a,
        "compatibility": compatibility(measured, stream),
        "reindex": reindex(measured, stream),
        "continual": summaries(a, before),
    }


def by_class_means(
    embeddings: Embeddings, means: NDArray[np.float32] | None, stream: Stream, step: int
) -> dict[str, float | None] | None:
    """Share of test images nearest to the stored mean of their class, by group; None where no means are stored."""
    if means is None:
        return None
    queries, _ = _flags(embeddings, stream)
    sessions = [session.labels for session in stream.sessions]
    scores = class_mean_accuracy(embeddings.vectors, embeddings.labels, means, sessions, step, query_mask=queries)
    return scores.to_dict()


def by_session(scores: GroupScores) -> dict[str, list[float | None]]:
    """Score on each session's classes, by metric."""
    return {metric: [_value(each, metric) for each in scores.sessions] for metric in METRICS}


def _flags(embeddings: Embeddings, stream: Stream) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which embedded test images may be queries, and which may be in the gallery."""
    samples = test_samples(stream)
    flags = np.array([(sample.query, sample.gallery) for sample in samples], dtype=bool).reshape(-1, 2)
    return flags[embeddings.indices, 0], flags[embeddings.indices, 1]


def _figures(scores: RetrievalScores) -> dict[str, Any] | None:
    return scores.to_dict() if scores.queries else None


def _value(scores: RetrievalScores, metric: str) -> float | None:
    name, _, k = metric.partition("@")
    return _finite(scores.recall[int(k)] if name == "recall" else scores.map_at_r)


def _array(values: Any) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
