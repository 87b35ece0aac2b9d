"""Ridge regression from statistics against the same on the vectors, and the choice of its penalty."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scrubjay.closed_form.ridge import PENALTIES, choose_penalty, gram, regress, squared_error
from scrubjay.closed_form.statistics import Statistics
from scrubjay.errors import DataError

ERA = "e" * 32


def data(seed: int, classes: int = 4, each: int = 6, width: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(each)
    means = torch.randn(classes, width, generator=generator, dtype=torch.float64)
    return means[labels] + torch.randn(len(labels), width, generator=generator, dtype=torch.float64) + 2, labels


def one_hot(statistics: Statistics) -> Tensor:
    return torch.eye(len(statistics.labels), dtype=torch.float64)


@given(st.integers(0, 100), st.integers(1, 4), st.integers(1, 3))
def test_the_gram_matrix_is_the_sum_of_outer_products(seed: int, classes: int, each: int) -> None:
    features, labels = data(seed, classes, each)
    expected = torch.stack([torch.outer(row, row) for row in features]).sum(0)
    torch.testing.assert_close(gram(Statistics.of(ERA, features, labels)), expected)


def test_the_map_minimises_the_penalised_error() -> None:
    features, labels = data(0)
    targets = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight = regress(Statistics.of(ERA, features, labels), targets, 0.7).weight.requires_grad_()
    loss = 0.7 * weight.square().sum()
    for row, label in zip(features, labels, strict=True):
        loss = loss + (weight @ row - targets[label]).square().sum()
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.abs().max() < 1e-10


def test_the_error_is_that_of_the_vectors() -> None:
    features, labels = data(2)
    statistics = Statistics.of(ERA, features, labels)
    projection = regress(statistics, one_hot(statistics), 0.1)
    errors = [
        float((projection(row[None])[0] - one_hot(statistics)[label]).square().sum())
        for row, label in zip(features, labels, strict=True)
    ]
    assert squared_error(projection, statistics, one_hot(statistics)) == pytest.approx(sum(errors) / len(errors))


def test_the_penalty_has_the_smallest_held_out_error() -> None:
    fitted = Statistics.of(ERA, *data(3, each=3, width=30))
    features, labels = data(3, each=9, width=30)
    held_out = Statistics.of(ERA, features[labels > 0], labels[labels > 0])
    chosen = choose_penalty(fitted, held_out, one_hot)
    scale = float(gram(fitted).diagonal().mean())
    targets = one_hot(fitted)

    def error(penalty: float) -> float:
        return squared_error(regress(fitted, targets, penalty), held_out, targets[1:])

    assert min((scale * penalty for penalty in PENALTIES), key=error) == chosen
    assert chosen not in (scale * PENALTIES[0], scale * PENALTIES[-1])


def test_without_held_out_images_there_is_a_penalty() -> None:
    fitted = Statistics.of(ERA, *data(4))
    assert choose_penalty(fitted, Statistics.empty(ERA, 5), one_hot) > 0


def test_refuses_what_it_cannot_invert() -> None:
    with pytest.raises(DataError, match=r"set a larger method\.penalty"):
        regress(Statistics.of(ERA, torch.zeros(4, 3), torch.tensor([0, 0, 1, 1])), torch.eye(2).double(), 0.0)
