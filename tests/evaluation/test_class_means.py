"""Nearest class mean, against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scrubjay.errors import DataError
from scrubjay.evaluation import class_means
from scrubjay.evaluation.class_means import class_mean_accuracy, nearest_mean

SESSIONS = [range(3), range(3, 5), range(5, 8)]


def sample(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(8, 4))
    labels = rng.integers(0, 10, 60)  # 8 and 9 are never learned
    vectors = rng.normal(size=(60, 4)) + np.vstack([means, means[:2]])[labels]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels, means


def by_loops(vectors: np.ndarray, labels: np.ndarray, means: np.ndarray, classes: range) -> float:
    right = []
    for vector, label in zip(vectors.tolist(), labels.tolist(), strict=True):
        if label in classes:
            cosines = {}
            for c in classes:
                norm = math.sqrt(sum(x * x for x in means[c].tolist()))
                if norm:
                    cosines[c] = sum(a * b for a, b in zip(vector, means[c].tolist(), strict=True)) / norm
            right.append(bool(cosines) and max(cosines, key=cosines.__getitem__) == label)
    return sum(right) / len(right) if right else math.nan


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("block", [7, 4096])
def test_groups_are_those_of_loops(step: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_means, "BLOCK", block)
    vectors, labels, means = sample()
    scores = class_mean_accuracy(vectors, labels, means, SESSIONS, step)
    first, stop = SESSIONS[step].start, SESSIONS[step].stop
    for name, classes in (("old", range(first)), ("new", range(first, stop)), ("seen", range(stop))):
        expected = by_loops(vectors, labels, means, classes)
        assert getattr(scores, name) == pytest.approx(expected, nan_ok=True)
    assert 0 < scores.seen < 1
    assert (scores.to_dict()["old"] is None) == (step == 0)


def test_a_class_without_a_mean_is_never_chosen_and_never_right() -> None:
    vectors, labels, means = sample()
    means[1] = 0
    scores = class_mean_accuracy(vectors, labels, means, SESSIONS, 1)
    assert scores.old == pytest.approx(by_loops(vectors, labels, means, range(3)))
    assert 1 in nearest_mean(vectors, sample()[2])
    assert 1 not in nearest_mean(vectors, means)
    assert class_mean_accuracy(vectors, labels, np.zeros((8, 4)), SESSIONS, 1).seen == 0


def test_fewer_means_than_classes_are_missing_ones() -> None:
    vectors, labels, means = sample()
    short = class_mean_accuracy(vectors, labels, means[:4], SESSIONS, 1)
    means[4:] = 0
    assert short == class_mean_accuracy(vectors, labels, means, SESSIONS, 1)


def test_norms_of_means_do_not_count() -> None:
    vectors, labels, means = sample()
    scaled = means * np.arange(1, 9)[:, None]
    assert class_mean_accuracy(vectors, labels, scaled, SESSIONS, 2) == class_mean_accuracy(
        vectors, labels, means, SESSIONS, 2
    )


def test_only_those_asked_for_count() -> None:
    vectors, labels, means = sample()
    mask = np.arange(60) % 3 == 0
    scores = class_mean_accuracy(vectors, labels, means, SESSIONS, 1, query_mask=mask)
    assert scores.seen == pytest.approx(by_loops(vectors[mask], labels[mask], means, range(5)))


def test_ties_go_to_the_first() -> None:
    assert nearest_mean(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [2.0, 0.0], [3.0, 0.0]])).tolist() == [1]
    assert nearest_mean(np.zeros((0, 2)), np.eye(2)).tolist() == []


def test_shapes_that_do_not_fit_are_refused() -> None:
    vectors, labels, means = sample()
    with pytest.raises(DataError, match=r"means \(8, 3\)"):
        class_mean_accuracy(vectors, labels, means[:, :3], SESSIONS, 1)
