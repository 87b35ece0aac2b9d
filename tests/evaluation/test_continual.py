from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.errors import DataError
from scrubjay.evaluation.continual import (
    average,
    average_incremental,
    backward_transfer,
    forgetting,
    forward_transfer,
    normalised_gap,
)

scores = st.floats(0, 1, allow_nan=False)
matrices = st.integers(1, 6).flatmap(
    lambda T: st.lists(st.lists(scores, min_size=T, max_size=T), min_size=T, max_size=T)
)


@given(matrices)
def test_averages_are_the_loops(a) -> None:
    T = len(a)
    assert average(np.array(a)) == pytest.approx(sum(a[T - 1][j] for j in range(T)) / T)
    incremental = sum(sum(a[t][j] for j in range(t + 1)) / (t + 1) for t in range(T)) / T
    assert average_incremental(np.array(a)) == pytest.approx(incremental)


@given(matrices.filter(lambda a: len(a) > 1), st.data())
def test_forgetting_and_transfer_are_the_loops(a, data) -> None:
    T = len(a)
    b = data.draw(st.lists(scores, min_size=T, max_size=T))
    lost = gained = ahead = 0.0
    for j in range(T - 1):
        lost += max(a[step][j] for step in range(T - 1)) - a[T - 1][j]
        gained += a[T - 1][j] - a[j][j]
    for j in range(1, T):
        ahead += a[j - 1][j] - b[j]
    assert forgetting(np.array(a)) == pytest.approx(lost / (T - 1), abs=1e-12)
    assert backward_transfer(np.array(a)) == pytest.approx(gained / (T - 1), abs=1e-12)
    assert forward_transfer(np.array(a), np.array(b)) == pytest.approx(ahead / (T - 1), abs=1e-12)


def test_only_what_a_figure_needs_has_to_be_measured() -> None:
    n = math.nan
    a = np.array([[0.9, n, n], [0.5, 0.8, n], [0.4, 0.9, 0.6]])
    assert average(a) == pytest.approx(1.9 / 3)
    assert average_incremental(a) == pytest.approx((0.9 + 0.65 + 1.9 / 3) / 3)
    assert forgetting(a) == pytest.approx(((0.9 - 0.4) + (0.8 - 0.9)) / 2)
    assert backward_transfer(a) == pytest.approx((-0.5 + 0.1) / 2)
    assert math.isnan(forward_transfer(a, np.zeros(3)))
    a[2, 0] = n
    assert np.isnan([average(a), average_incremental(a), forgetting(a), backward_transfer(a)]).all()
    assert math.isnan(forgetting(np.array([[n, n], [0.5, 0.5]])))


def test_one_session_has_averages_only() -> None:
    a = np.array([[0.7]])
    assert average(a) == average_incremental(a) == 0.7
    assert np.isnan([forgetting(a), backward_transfer(a), forward_transfer(a, np.array([0.1]))]).all()


def test_normalised_gap() -> None:
    assert normalised_gap(0.5, 0.5, 0.9) == 0
    assert normalised_gap(0.9, 0.5, 0.9) == 1
    assert normalised_gap(0.6, 0.5, 0.9) == pytest.approx(0.25)
    assert math.isnan(normalised_gap(0.6, 0.5, 0.5))


@pytest.mark.parametrize("shape", [(2, 3), (3,), (0, 0)])
def test_other_shapes_are_refused(shape) -> None:
    for figure in (average, average_incremental, forgetting, backward_transfer):
        with pytest.raises(DataError, match=r"a has the shape \("):
            figure(np.zeros(shape))
    with pytest.raises(DataError, match=r"b has the shape \(2,\) for 3 sessions"):
        forward_transfer(np.zeros((3, 3)), np.zeros(2))
