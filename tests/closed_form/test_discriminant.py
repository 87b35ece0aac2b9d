"""Fisher's discriminants against their definition, and the alignment of two generations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scrubjay.closed_form.discriminant import RIDGE, Projection, Target, aligned, shrunk_covariance, solve
from scrubjay.closed_form.statistics import Statistics
from scrubjay.errors import DataError

ERA = "e" * 32


def data(seed: int, classes: int = 4, each: int = 12, width: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    means = 3 * torch.randn(classes, width, generator=generator, dtype=torch.float64)
    labels = torch.arange(classes).repeat(each)
    noise = torch.randn(len(labels), width, generator=generator, dtype=torch.float64)
    return means[labels] + noise * torch.logspace(-1, 1, width, dtype=torch.float64), labels


def statistics(seed: int, **options: int) -> Statistics:
    return Statistics.of(ERA, *data(seed, **options))


@pytest.mark.parametrize("target", ["diagonal", "identity"])
def test_the_covariance_is_shrunk_towards_its_target(target: Target) -> None:
    features, labels = data(0)
    shrunk = shrunk_covariance(Statistics.of(ERA, features, labels), 0.3, target)
    deviations = torch.stack(
        [row - features[labels == label].mean(0) for row, label in zip(features, labels, strict=True)]
    )
    covariance = torch.stack([torch.outer(row, row) for row in deviations]).mean(0)
    mean = float(covariance.diagonal().mean())
    for i in range(6):
        for j in range(6):
            diagonal = 0.3 * (float(covariance[i, i]) if target == "diagonal" else mean) + RIDGE * mean
            expected = 0.7 * covariance[i, j] + (diagonal if i == j else 0.0)
            assert shrunk[i, j] == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize("classes", [2, 4, 9])  # fewer and more classes than features
def test_axes_solve_the_generalised_eigenproblem(classes: int) -> None:
    collected = statistics(1, classes=classes)
    solved = solve(collected, 0.2, 100)
    covariance = shrunk_covariance(collected, 0.2).numpy()
    centred = (collected.means - collected.means.mean(0)).numpy()
    between = centred.T @ centred / classes
    values, vectors = scipy.linalg.eigh(between, covariance)
    number = min(classes - 1, 6)
    np.testing.assert_allclose(solved.values.numpy(), values[::-1][:number], rtol=1e-8)
    np.testing.assert_allclose(
        solved.axes.numpy() @ solved.axes.numpy().T, vectors[:, -number:] @ vectors[:, -number:].T, atol=1e-8
    )
    np.testing.assert_allclose(solved.axes.numpy().T @ covariance @ solved.axes.numpy(), np.eye(number), atol=1e-8)


def test_takes_the_leading_axes() -> None:
    collected = statistics(2)
    torch.testing.assert_close(solve(collected, 0.2, 2).axes, solve(collected, 0.2, 3).axes[:, :2])


def test_residual_axes_are_orthogonal_to_the_discriminants() -> None:
    collected = statistics(3, width=12)
    solved, covariance = solve(collected, 0.2, 3), shrunk_covariance(collected, 0.2)
    residual = solved.residual_axes(5)
    torch.testing.assert_close(residual.T @ covariance @ residual, torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(
        residual.T @ covariance @ solved.axes, torch.zeros(5, 3, dtype=torch.float64), rtol=0, atol=1e-10
    )
    assert solved.residual_axes(100).shape == (12, 9)


def test_the_projection_centres_and_weighs() -> None:
    features, labels = data(4, width=12)
    collected = Statistics.of(ERA, features, labels)
    solved = solve(collected, 0.2, 3)
    row, centre = features[0], collected.means.mean(0)
    discriminant = [float((row - centre) @ solved.axes[:, k]) for k in range(3)]
    rest = [float((row - centre) @ axis) * 0.5 for axis in solved.residual_axes(2).T]
    found = solved.projection(0.25, 5)(row[None])[0]
    assert found.tolist() == pytest.approx(discriminant + rest, abs=1e-9)
    assert solved.projection(0.0, 5)(row[None])[0].tolist() == pytest.approx(discriminant, abs=1e-9)
    weighted = solved.projection(0.0, 5, "plda")(row[None])[0]
    expected = [y * (float(v) / (1 + float(v))) ** 0.5 for y, v in zip(discriminant, solved.values, strict=True)]
    assert weighted.tolist() == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 2**31))
def test_alignment_undoes_a_rotation_and_changes_no_cosine(seed: int) -> None:
    features, labels = data(seed % 1000)
    collected = Statistics.of(ERA, features, labels)
    new = solve(collected, 0.2, 3).projection()
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))[0]
    old = new.rotated(rotation[:, :3])
    found = aligned(new, old, collected)
    torch.testing.assert_close(found(features), old(features), rtol=0, atol=1e-7)
    torch.testing.assert_close(found(features) @ found(features).T, new(features) @ new(features).T, rtol=0, atol=1e-7)


def test_alignment_is_the_best_rotation() -> None:
    """No small further rotation brings the coordinates closer, in the mean over classes and images."""
    features, labels = data(5, classes=5)
    collected = Statistics.of(ERA, features, labels)
    new, old = solve(collected, 0.2, 3).projection(), solve(statistics(6, classes=5), 0.5, 3).projection()

    def distance(projection: Projection) -> float:
        squares = (projection(features) - old(features)).square().sum(1)
        return float(torch.stack([squares[labels == label].mean() for label in range(5)]).mean())

    found = aligned(new, old, collected)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        skew = 1e-2 * torch.randn(3, 3, generator=generator, dtype=torch.float64)
        assert distance(found) <= distance(found.rotated(torch.linalg.matrix_exp(skew - skew.T))) + 1e-9


@pytest.mark.parametrize("classes", [0, 1])
def test_refuses_fewer_than_two_classes(classes: int) -> None:
    features, labels = data(0)
    kept = labels < classes
    collected = Statistics.empty(ERA, 6) + Statistics.of(ERA, features[kept], labels[kept])
    with pytest.raises(DataError, match="at least two classes"):
        solve(collected, 0.2, 3)


def test_one_image_a_class_is_enough() -> None:
    features, labels = data(0, each=1)
    solved = solve(Statistics.of(ERA, features, labels), 0.2, 3)
    assert torch.isfinite(solved.axes).all()
    assert solved.axes.shape == (6, 3)


def test_constant_features() -> None:
    features, labels = data(0)
    features[:, 2] = 7.0
    assert torch.isfinite(solve(Statistics.of(ERA, features, labels), 0.2, 3).axes).all()
    with pytest.raises(DataError, match="same mean features"):
        solve(Statistics.of(ERA, torch.ones(8, 6), torch.arange(8) % 2), 0.2, 3)


def test_no_shrinkage_needs_as_many_images_as_features() -> None:
    features, labels = data(0, each=3)
    collected = Statistics.of(ERA, features, labels)
    collected.scatter[:] = torch.diag(torch.tensor([1.0, 1, 1, 1, 1, -1e-3], dtype=torch.float64))
    with pytest.raises(DataError, match="not positive definite"):
        solve(collected, 0.0, 3)
