from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scrubjay.closed_form import no_match
from scrubjay.closed_form.discriminant import shrunk_covariance, solve
from scrubjay.closed_form.no_match import (
    NEW_CLASS_SPREAD,
    ClassModel,
    covariance_root,
    left_out_scores,
    left_out_threshold,
)
from scrubjay.closed_form.statistics import Statistics

SHRINKAGE = 0.2


def features(classes: int = 5, each: int = 6, dim: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    means = 3 * torch.randn(classes, dim, generator=random, dtype=torch.float64)
    labels = torch.arange(classes).repeat_interleave(each) * 2 + 1
    noise = torch.randn(len(labels), dim, generator=random, dtype=torch.float64)
    return means.repeat_interleave(each, 0) + noise * torch.linspace(0.5, 2, dim) + 7, labels


def class_model(statistics: Statistics, shrinkage: float = SHRINKAGE) -> ClassModel:
    return ClassModel.of(statistics, covariance_root(statistics, shrinkage))


def by_definition(x: Tensor, means: Tensor, covariance: Tensor) -> Tensor:
    """r_k by the formula, image by image and class by class."""
    centre = means.mean(0)
    between = sum(torch.outer(m - centre, m - centre) for m in means) / len(means)
    new = torch.linalg.inv(covariance + NEW_CLASS_SPREAD * between)
    within = torch.linalg.inv(covariance)
    rows = [[(v - centre) @ new @ (v - centre) - (v - m) @ within @ (v - m) for m in means] for v in x]
    return torch.tensor(rows, dtype=torch.float64)


def test_the_scores_are_those_of_the_formula() -> None:
    x, labels = features()
    statistics = Statistics.of("era", x, labels)
    expected = by_definition(x, statistics.means, shrunk_covariance(statistics, SHRINKAGE))
    model = class_model(statistics)
    torch.testing.assert_close(model.scores(x), expected)
    torch.testing.assert_close(model.own_scores(x, labels), expected[torch.arange(len(x)), (labels - 1) // 2])


def test_the_score_is_a_log_likelihood_ratio() -> None:
    x, labels = features()
    statistics = Statistics.of("era", x, labels)
    covariance = shrunk_covariance(statistics, SHRINKAGE)
    centre = statistics.means.mean(0)
    between = (statistics.means - centre).T @ (statistics.means - centre) / len(statistics.means)
    normal = torch.distributions.MultivariateNormal
    new = normal(centre, covariance + NEW_CLASS_SPREAD * between).log_prob(x)
    ratio = torch.stack([normal(m, covariance).log_prob(x) - new for m in statistics.means], 1)
    difference = class_model(statistics).scores(x) - 2 * ratio
    torch.testing.assert_close(difference, difference[:1, :1].expand_as(difference))


def test_the_best_class_is_the_nearest_mean_in_the_discriminant_space() -> None:
    x, labels = features()
    statistics = Statistics.of("era", x, labels)
    projection = solve(statistics, SHRINKAGE, 16).projection()
    nearest = torch.cdist(projection(x), projection(statistics.means)).argmin(1)
    assert torch.equal(class_model(statistics).scores(x).argmax(1), nearest)


def test_a_class_whose_mean_is_left_out() -> None:
    x, labels = features()
    held_out, held_out_labels = features(seed=1)
    statistics = Statistics.of("era", x, labels)
    covariance = shrunk_covariance(statistics, SHRINKAGE)
    scores, of = class_model(statistics).left_out_scores(held_out, held_out_labels)
    assert torch.equal(of, held_out_labels)
    for score, label, image in zip(scores, held_out_labels, held_out, strict=True):
        others = statistics.means[statistics.labels != label]
        assert score == pytest.approx(float(by_definition(image[None], others, covariance).max()))


def test_a_class_that_is_left_out_with_its_scatter() -> None:
    x, labels = features(each=20)
    statistics = Statistics.of("era", x, labels)
    scored = torch.arange(len(x)) % 4 == 0
    scores, of = left_out_scores(
        statistics, covariance_root(statistics, SHRINKAGE), SHRINKAGE, x.half(), labels, scored
    )
    assert torch.equal(of, labels[scored])
    diagonal = (statistics.scatter / statistics.total).diagonal()
    for label in statistics.labels.tolist():
        rest = statistics - Statistics.of("era", x[labels == label], labels[labels == label])
        # The diagonal that is shrunk towards is the one of all classes, as the docstring says.
        covariance = (1 - SHRINKAGE) * rest.scatter / rest.total
        shrunk = SHRINKAGE * diagonal + _ridge(diagonal)
        covariance.diagonal().add_(shrunk * statistics.total / rest.total)
        expected = by_definition(x[(labels == label) & scored], rest.means, covariance).amax(1)
        torch.testing.assert_close(scores[of == label], expected, rtol=0.02, atol=0.5)  # x is rounded to float16


def _ridge(diagonal: Tensor) -> Tensor:
    return 1e-6 * diagonal.mean()


def test_scores_do_not_depend_on_the_coordinates_of_the_features() -> None:
    x, labels = features(each=20)
    scale = torch.linspace(0.5, 2, x.shape[1], dtype=torch.float64)
    models = [class_model(Statistics.of("era", rows, labels)) for rows in (x, x * scale - 3)]
    torch.testing.assert_close(models[0].scores(x), models[1].scores(x * scale - 3), rtol=1e-3, atol=0.05)


def test_two_classes_leave_too_few_to_leave_one_out() -> None:
    x, labels = features(classes=2)
    statistics = Statistics.of("era", x, labels)
    scores, of = class_model(statistics).left_out_scores(x, labels)
    assert len(scores) == len(of) == 0
    assert left_out_threshold(scores, of, 0.05) == math.inf
    assert (
        len(left_out_scores(statistics, covariance_root(statistics, SHRINKAGE), SHRINKAGE, x, labels, labels > 0)[0])
        == 0
    )


def test_at_most_some_classes_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(no_match, "LEFT_OUT_CLASSES", 3)
    x, labels = features()
    statistics = Statistics.of("era", x, labels)
    few, of = class_model(statistics).left_out_scores(x, labels)
    again, of_again = left_out_scores(
        statistics, covariance_root(statistics, SHRINKAGE), SHRINKAGE, x, labels, labels > 0
    )
    assert len(of.unique()) == 3
    assert torch.equal(of, of_again)
    assert len(few) == len(again) == 18


def threshold_by_loops(scores: list[float], labels: list[int], rate: float) -> float:
    """The threshold without tensors: cumulative shares of classes that count equally."""

    def quantile(level: float) -> float:
        total = 0.0
        for score, label in sorted(zip(scores, labels, strict=True)):
            total += 1 / labels.count(label) / len(set(labels))
            if total >= level - 1e-9:
                return score
        return max(scores)

    first = quantile(1 - rate)
    above = [np.mean([s > first for s, of in zip(scores, labels, strict=True) if of == label]) for label in set(labels)]
    effective = float(len(scores))
    if len(above) > 1:
        variance = max(float(np.var(above, ddof=1)) / len(above), 1e-12)
        effective = min(effective, max(len(above), rate * (1 - rate) / variance))
    return quantile((1 - rate) * (effective + 1) / effective)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-20, 20)), min_size=19, max_size=60), st.sampled_from([0.05, 0.2])
)
def test_the_threshold_is_a_quantile_over_classes(images: list[tuple[int, int]], rate: float) -> None:
    labels, scores = [label for label, _ in images], [float(score) for _, score in images]
    threshold = left_out_threshold(torch.tensor(scores, dtype=torch.float64), torch.tensor(labels), rate)
    assert threshold == threshold_by_loops(scores, labels, rate)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-20, 20)), min_size=19, max_size=60))
def test_a_lower_rate_has_a_higher_threshold(images: list[tuple[int, int]]) -> None:
    labels = torch.tensor([label for label, _ in images])
    scores = torch.tensor([score for _, score in images], dtype=torch.float64)
    thresholds = [left_out_threshold(scores, labels, rate) for rate in (0.3, 0.05, 0.01)]
    assert thresholds[0] <= thresholds[1] <= thresholds[2]


def test_too_few_images_support_no_threshold() -> None:
    scores = torch.arange(18, dtype=torch.float64)
    assert left_out_threshold(scores, scores.long(), 0.05) == math.inf
    assert left_out_threshold(torch.arange(19, dtype=torch.float64), torch.arange(19), 0.05) == 18


@pytest.mark.parametrize("classes", [15, 40])
def test_the_rate_is_kept_for_new_classes_like_those_that_are_left_out(classes: int) -> None:
    """Scores with a large effect of the class, so that images are far from independent."""
    random = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        effects = random.normal(size=classes)
        labels = torch.arange(classes).repeat_interleave(10)
        scores = torch.from_numpy(np.repeat(effects, 10) + random.normal(size=len(labels)))
        threshold = left_out_threshold(scores, labels, 0.05)
        new = random.normal(size=20)[:, None] + random.normal(size=(20, 50))
        shares.append(float((new > threshold).mean()))
    assert np.mean(shares) <= 0.05 + 3 * np.std(shares) / len(shares) ** 0.5


def test_features_far_from_the_origin() -> None:
    x, labels = features(each=20)
    near, far = (class_model(Statistics.of("era", rows, labels)).scores(rows) for rows in (x, x + 1e4))
    torch.testing.assert_close(near, far, rtol=1e-6, atol=1e-6)


def test_damaged_statistics_are_reported_as_by_the_solver() -> None:
    x, labels = features()
    statistics = Statistics.of("era", x, labels)
    broken = replace(statistics, scatter=-statistics.scatter)
    with pytest.raises(Exception, match="not positive definite"):
        class_model(broken, 0.0)
