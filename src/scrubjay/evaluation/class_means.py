"""Nearest-class-mean accuracy: how often the class mean that is nearest to an image is that of its own class.

It evaluates the class means that a method stores. Means are compared by cosine, so their norm does not count. A row of
zeros stands for a class without a mean: it is never chosen, so that images of that class count as not recognised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import DataError

BLOCK = 4096
"""Number of images that are compared with all means at a time."""


@dataclass(frozen=True, slots=True)
class ClassMeanScores:
    """Accuracy by group of classes after learning a session, as fractions 0 … 1; NaN for a group without images.

    Attributes:
        old: images of the classes of earlier sessions, against the means of these classes.
        new: images of the session just learned, against the means of its classes.
        seen: images of all classes learned so far, against the means of all of them.
    """

    old: float
    new: float
    seen: float

    def to_dict(self) -> dict[str, float | None]:
        """The scores for JSON: None for NaN."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def class_mean_accuracy(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    means: NDArray[np.float32],
    sessions: Sequence[range],
    step: int,
    *,
    query_mask: NDArray[np.bool_] | None = None,
) -> ClassMeanScores:
    """Accuracy of the nearest class mean for old, new and all seen classes, each group among itself.

    Args:
        vectors: float32 (N, d), unit rows, of test images; images of classes that were not learned are left out.
        labels: integers (N,).
        means: float32 (C, d), row c for the class with label c, in the same space as `vectors`.
        sessions: the labels of each session, in order of learning (`Session.labels`).
        step: index of the session just learned, 0 for the initial one.
        query_mask: bool (N,), which images are evaluated; default: all.

    Raises:
        DataError: the shapes do not fit one another.
    """
    vectors, labels, means = np.asarray(vectors), np.asarray(labels), np.asarray(means)
    if vectors.ndim != 2 or means.ndim != 2 or vectors.shape[1] != means.shape[1] or labels.shape != (len(vectors),):
        raise DataError(
            f"vectors {vectors.shape}, labels {labels.shape}, means {means.shape}: needed are (N, d), (N,) and (C, d)."
        )
    evaluated = np.ones(len(labels), dtype=bool) if query_mask is None else np.asarray(query_mask, dtype=bool)
    first, stop = sessions[step].start, sessions[step].stop
    groups = {"old": range(first), "new": range(first, stop), "seen": range(stop)}
    scores = {}
    for name, classes in groups.items():
        inside = evaluated & (labels >= classes.start) & (labels < classes.stop)
        own = means[classes.start : classes.stop]
        scores[name] = _share(nearest_mean(vectors[inside], own) == labels[inside] - classes.start)
    return ClassMeanScores(**scores)


def nearest_mean(vectors: NDArray[np.float32], means: NDArray[np.float32]) -> NDArray[np.int64]:
    """Row of the mean with the greatest cosine to each vector; −1 where there is no mean. Ties go to the first row.

    Args:
        vectors: (N, d).
        means: (C, d), of any norm; rows of zeros are never chosen.

    Returns:
        int64 (N,).

    >>> nearest_mean(np.eye(2), np.array([[0.0, 0.0], [0.0, 3.0], [0.5, 0.1]])).tolist()
    [2, 1]
    """
    norms = np.linalg.norm(means, axis=1)
    known = np.flatnonzero(norms > 0)
    if not len(known):
        return np.full(len(vectors), -1, np.int64)
    directions = means[known] / norms[known, None]
    blocks = [(vectors[at : at + BLOCK] @ directions.T).argmax(1) for at in range(0, len(vectors), BLOCK)]
    chosen: NDArray[np.int64] = known[np.concatenate([np.zeros(0, np.int64), *blocks])]
    return chosen


def _share(correct: NDArray[np.bool_]) -> float:
    return float(correct.mean()) if len(correct) else math.nan
