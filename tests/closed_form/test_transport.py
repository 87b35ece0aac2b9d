"""Statistics that are carried to another trunk by a map, against the same of mapped features and against loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scrubjay.closed_form.discriminant import Projection
from scrubjay.closed_form.statistics import Statistics
from scrubjay.closed_form.transport import PENALTIES, FeatureMap, fit

OLD, NEW = "a" * 32, "b" * 32


def gaussian(seed: int, classes: int = 4, each: int = 30, width: int = 6) -> tuple[Tensor, Tensor]:
    """Features with correlated columns of very different scales, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(each)
    means = 3 * torch.randn(classes, width, generator=generator, dtype=torch.float64)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), width, generator=generator, dtype=torch.float64)
    return (means[labels] + noise @ mixing) * torch.logspace(-2, 2, width, dtype=torch.float64), labels


def exact_map(seed: int, width: int = 6, first: int = 2) -> FeatureMap:
    """A map that changes the columns from `first` on, and misses nothing."""
    generator = torch.Generator().manual_seed(seed)
    changed = torch.arange(first, width)
    weight = 0.3 * torch.randn(len(changed), width, generator=generator, dtype=torch.float64)
    bias = torch.randn(len(changed), generator=generator, dtype=torch.float64)
    return FeatureMap(changed, weight, bias, torch.zeros(len(changed), len(changed), dtype=torch.float64))


def equal(found: Statistics, expected: Statistics) -> None:
    assert found.era == expected.era
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.counts, expected.counts)
    torch.testing.assert_close(found.means, expected.means)
    torch.testing.assert_close(found.scatter, expected.scatter, rtol=1e-9, atol=1e-6)


@given(st.integers(0, 100), st.integers(0, 5))
def test_an_exact_map_carries_statistics_to_those_of_the_mapped_features(seed: int, first: int) -> None:
    features, labels = gaussian(seed)
    mapping = exact_map(seed, first=first)
    carried = mapping.transported(Statistics.of(OLD, features, labels), NEW)
    equal(carried, Statistics.of(NEW, mapping(features), labels))
    assert torch.equal(carried.scatter, carried.scatter.T)


def test_mapped_features_and_carried_moments_are_those_of_loops() -> None:
    features, labels = gaussian(0)
    mapping = exact_map(1)
    rows = []
    for vector in features:
        row = vector.clone()
        for position, weights, offset in zip(mapping.changed.tolist(), mapping.weight, mapping.bias, strict=True):
            row[position] = vector[position] + sum(w * x for w, x in zip(weights, vector, strict=True)) + offset
        rows.append(row)
    torch.testing.assert_close(mapping(features), torch.stack(rows))
    means = [
        torch.stack([row for row, label in zip(rows, labels, strict=True) if label == c]).mean(0) for c in range(4)
    ]
    scatter = torch.zeros(6, 6, dtype=torch.float64)
    for row, label in zip(rows, labels, strict=True):
        scatter += torch.outer(row - means[label], row - means[label])
    carried = mapping.transported(Statistics.of(OLD, features, labels), NEW)
    torch.testing.assert_close(carried.means, torch.stack(means))
    torch.testing.assert_close(carried.scatter, scatter, rtol=1e-9, atol=1e-6)


def test_what_the_map_misses_is_added_to_the_scatter() -> None:
    features, labels = gaussian(2)
    exact = exact_map(3)
    factor = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    missing = FeatureMap(exact.changed, exact.weight, exact.bias, factor @ factor.T)
    statistics = Statistics.of(OLD, features, labels)
    added = missing.transported(statistics, NEW).scatter - exact.transported(statistics, NEW).scatter
    torch.testing.assert_close(added[2:, 2:], len(features) * factor @ factor.T, rtol=1e-6, atol=1e-6)
    assert (added[:2].abs() < 1e-6).all()


def test_a_linear_change_is_found() -> None:
    features, labels = gaussian(5)
    exact = exact_map(6)
    scales = Statistics.of(OLD, features, labels).deviations
    found = fit(features, exact(features), labels, scales)
    assert found.changed.tolist() == [2, 3, 4, 5]
    others, _ = gaussian(5, classes=7)
    error = (found(others) - exact(others)).square().mean(0).sqrt()
    change = (others - exact(others)).square().mean(0).sqrt()
    assert (error[2:] < 0.02 * change[2:]).all()
    assert torch.equal(found(others)[:, :2], others[:, :2])


@given(st.integers(0, 20))
def test_the_map_minimises_the_penalised_error(seed: int) -> None:
    features, labels = gaussian(seed, each=5)
    generator = torch.Generator().manual_seed(seed + 1)
    changes = torch.randn(len(features), 3, dtype=torch.float64, generator=generator)
    new = torch.cat([features[:, :3], features[:, 3:] + changes], 1)
    scales = torch.logspace(-1, 1, 6, dtype=torch.float64)
    found = fit(features, new, labels, scales)
    mean = features.mean(0)
    scale = float((((features - mean) / scales) ** 2).sum(1).mean())

    def objective(weight: Tensor, bias: Tensor, penalty: float) -> Tensor:
        missed = (new - features)[:, 3:] - features @ weight.T - bias
        return missed.square().sum() + penalty * scale * (weight * scales).square().sum()

    gradients = []
    for penalty in PENALTIES:
        weight, bias = found.weight.clone().requires_grad_(), found.bias.clone().requires_grad_()
        objective(weight, bias, penalty).backward()
        assert weight.grad is not None
        gradients.append(float((weight.grad / scales).abs().max()))
    assert min(gradients) < 1e-6


def test_classes_are_left_out_to_choose_the_penalty() -> None:
    """Where every class changes in its own way the map of other classes is of no use, however well it fits these."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(8).repeat(20)
    features = torch.nn.functional.one_hot(labels, 8).double()
    features = features + 0.05 * torch.randn(len(labels), 8, dtype=torch.float64, generator=generator)
    own = torch.randn(8, 8, dtype=torch.float64, generator=generator)
    found = fit(features, features + own[labels], labels, torch.full((8,), 0.05))
    assert found.weight.norm() < 0.3 * own.norm()


@pytest.mark.parametrize("classes", [1, 2])
def test_few_classes_and_trunks_that_agree(classes: int) -> None:
    features, labels = gaussian(7, classes=classes, each=3)
    found = fit(features, features, labels, torch.ones(6))
    assert len(found.changed) == 0
    equal(found.transported(Statistics.of(OLD, features, labels), NEW), Statistics.of(NEW, features, labels))
    moved = fit(features, features + 1, labels, torch.ones(6))
    torch.testing.assert_close(moved(features), features + 1)


def test_a_map_of_new_features_as_one_of_old_ones() -> None:
    features, _ = gaussian(8)
    mapping = exact_map(9)
    generator = torch.Generator().manual_seed(10)
    projection = Projection(
        torch.randn(3, 6, dtype=torch.float64, generator=generator), torch.ones(3, dtype=torch.float64)
    )
    torch.testing.assert_close(mapping.before(projection)(features), projection(mapping(features)))
