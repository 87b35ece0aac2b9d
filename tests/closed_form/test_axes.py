"""Leading axes of a map, and the subspace of the class means."""

from __future__ import annotations

import pytest
import torch

from scrubjay.closed_form.axes import class_mean_axes, leading
from scrubjay.closed_form.discriminant import Projection
from scrubjay.closed_form.statistics import Statistics
from scrubjay.errors import DataError

ERA = "e" * 32


def data(seed: int, classes: int, each: int = 5, width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(each)
    means = torch.randn(classes, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), width, generator=generator, dtype=torch.float64)
    return means[labels] + noise * torch.logspace(-1, 1, width, dtype=torch.float64) + 3, labels


def test_leading_axes_keep_the_most_of_the_outputs() -> None:
    features, labels = data(0, classes=4)
    weight = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    projection = Projection(weight, torch.ones(5, dtype=torch.float64))
    found = leading(projection, Statistics.of(ERA, features, labels), 2)
    outputs = projection(features)
    moment = torch.stack([torch.outer(row, row) for row in outputs]).mean(0)
    largest = torch.linalg.eigvalsh(moment)[-2:]
    torch.testing.assert_close(found(features).square().sum() / len(features), largest.sum())
    assert leading(projection, Statistics.of(ERA, features, labels), 5) is projection


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("classes", [2, 4, 9])  # fewer and more classes than features
def test_no_decision_of_the_nearest_class_mean_changes(classes: int, standardise: bool) -> None:
    features, labels = data(2, classes)
    statistics = Statistics.of(ERA, features, labels)
    y = class_mean_axes(statistics, 16, standardise)
    assert len(y.bias) == min(classes - 1, 6)
    factors = torch.ones(6, dtype=torch.float64)
    if standardise:
        deviations = features - statistics.means[labels]
        factors = 1 / deviations.square().mean(0).sqrt()
    for row in features:
        distances = torch.stack([(factors * (row - mean)).square().sum() for mean in statistics.means])
        seen = (y(row[None]) - y(statistics.means)).square().sum(1)
        torch.testing.assert_close(seen - seen[0], distances - distances[0])


def test_axes_are_orthonormal_and_largest_first() -> None:
    statistics = Statistics.of(ERA, *data(3, classes=5))
    y = class_mean_axes(statistics, 3, standardise=False)
    torch.testing.assert_close(y.weight @ y.weight.T, torch.eye(3, dtype=torch.float64))
    variances = y(statistics.means).square().mean(0)
    assert variances.tolist() == sorted(variances.tolist(), reverse=True)
    torch.testing.assert_close(y(statistics.means).mean(0), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("classes", [0, 1, 2])
def test_refuses_means_that_span_nothing(classes: int) -> None:
    labels = torch.arange(classes).repeat(2)
    with pytest.raises(DataError, match=f"of {classes} classes span no subspace"):
        class_mean_axes(Statistics.of(ERA, torch.ones(len(labels), 3), labels), 4, standardise=True)
