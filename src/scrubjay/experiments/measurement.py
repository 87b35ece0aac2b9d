"""How well one generation of a run retrieves: its embeddings of test images and gallery, and the figures of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scrubjay.data.stream import Stream
from scrubjay.evaluation import continual
from scrubjay.evaluation.class_means import class_mean_accuracy
from scrubjay.evaluation.retrieval import GroupScores, RetrievalScores, evaluate_groups
from scrubjay.models.checkpoint import load_tensors, save_tensors
from scrubjay.types import Embeddings, Sample

KS = (1, 2, 4, 8)
"""The k of recall@k."""
METRICS = (*(f"recall@{k}" for k in KS), "map_at_r")
"""Metrics of every matrix in `result.json`."""

Matrix = list[list[float | None]]
"""Scores by generation and session, or by two generations; None for what was not measured."""

_ARRAYS = ("vectors", "labels", "indices")


@dataclass(frozen=True, slots=True)
class Measured:
    """Embeddings by one generation.

    Attributes:
        test: the test images of all classes, including those of later sessions and the unseen ones.
        gallery: the training images of the classes that the generation has learned.
    """

    test: Embeddings
    gallery: Embeddings

    def save(self, path: Path) -> None:
        """Write both to one file, which appears whole or not at all."""
        tensors, info = {}, {}
        for part in ("test", "gallery"):
            embeddings = getattr(self, part)
            for name in _ARRAYS:
                tensors[f"{part}.{name}"] = torch.from_numpy(getattr(embeddings, name))
            info[part] = {"fingerprint": embeddings.fingerprint, "failures": embeddings.failures}
        save_tensors(path, tensors, info)

    @classmethod
    def load(cls, path: Path) -> Measured:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        tensors, info = load_tensors(path, "delete it, and the generation is measured again")
        parts = {
            part: Embeddings(
                **{name: tensors[f"{part}.{name}"].numpy() for name in _ARRAYS},
                fingerprint=info[part]["fingerprint"],
                failures=tuple((failed, reason) for failed, reason in info[part]["failures"]),
            )
            for part in ("test", "gallery")
        }
        return cls(**parts)


def test_samples(stream: Stream) -> list[Sample]:
    """Test images of all sessions, followed by those of the unseen classes."""
    return [*(sample for session in stream.sessions for sample in session.test), *stream.unseen]


def gallery_samples(stream: Stream, step: int) -> list[Sample]:
    """Training images of the sessions up to `step`: the gallery of the query–gallery protocol."""
    return [sample for session in stream.sessions[: step + 1] for sample in session.train]


def groups(embeddings: Embeddings, stream: Stream, step: int) -> GroupScores:
    """Search test images among themselves, by group of classes, after session `step` (0-based)."""
    queries, galleries = test_flags(embeddings, stream)
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
    """One entry of `groups` in `result.json`; a group that has no query is None."""
    return {name: _scores(getattr(scores, name)) for name in ("old", "new", "seen", "unseen")}


def accuracy(scores: Sequence[GroupScores]) -> dict[str, Matrix]:
    """a[t][j] by metric: score on session j's classes after learning session t."""
    return {metric: [[score(session, metric) for session in step.sessions] for step in scores] for metric in METRICS}


def summaries(a: Mapping[str, Matrix], before: Mapping[str, list[float | None]]) -> dict[str, dict[str, float | None]]:
    """Averages, forgetting and transfer over the stream, by metric.

    Args:
        a: from `accuracy`.
        before: by metric, the score on each session's classes before any training.
    """
    result = {}
    for metric, matrix in a.items():
        scores, start = _array(matrix), _array(before[metric])
        result[metric] = {
            "average": finite(continual.average(scores)),
            "average_incremental": finite(continual.average_incremental(scores)),
            "forgetting": finite(continual.forgetting(scores)),
            "backward_transfer": finite(continual.backward_transfer(scores)),
            "forward_transfer": finite(continual.forward_transfer(scores, start)),
        }
    return result


def by_class_means(
    embeddings: Embeddings, means: NDArray[np.float32] | None, stream: Stream, step: int
) -> dict[str, float | None] | None:
    """Share of test images nearest to the stored mean of their class, by group; None where no means are stored."""
    if means is None:
        return None
    queries, _ = test_flags(embeddings, stream)
    sessions = [session.labels for session in stream.sessions]
    scores = class_mean_accuracy(embeddings.vectors, embeddings.labels, means, sessions, step, query_mask=queries)
    return scores.to_dict()


def by_session(scores: GroupScores) -> dict[str, list[float | None]]:
    """Score on each session's classes, by metric."""
    return {metric: [score(session, metric) for session in scores.sessions] for metric in METRICS}


def test_flags(embeddings: Embeddings, stream: Stream) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of the embedded test images may be queries, and which may be gallery items: two of bool (N,)."""
    samples = test_samples(stream)
    flags = np.array([(sample.query, sample.gallery) for sample in samples], dtype=bool).reshape(-1, 2)
    return flags[embeddings.indices, 0], flags[embeddings.indices, 1]


def rows_where(embeddings: Embeddings, mask: NDArray[np.bool_]) -> Embeddings:
    """The embeddings for which `mask` (N,) is True."""
    return replace(embeddings, **{name: getattr(embeddings, name)[mask] for name in _ARRAYS})


def score(scores: RetrievalScores, metric: str) -> float | None:
    """One of `METRICS` from the figures of a search; None where it had no query."""
    name, _, k = metric.partition("@")
    return finite(scores.recall[int(k)] if name == "recall" else scores.map_at_r)


def finite(value: float) -> float | None:
    """The value for JSON: None for NaN and infinities."""
    return float(value) if np.isfinite(value) else None


def _scores(scores: RetrievalScores) -> dict[str, Any] | None:
    return scores.to_dict() if scores.queries else None


def _array(values: Any) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)
