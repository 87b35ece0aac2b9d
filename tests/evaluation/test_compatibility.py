from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.errors import DataError
from scrubjay.evaluation.compatibility import (
    ac,
    am,
    backfill_area,
    bc,
    bct,
    compatibility_summary,
    negative_flip_rate,
    negative_flips,
    retained,
    retained_by_session,
)

scores = st.sampled_from([0.0, 0.25, 0.5, 0.5, 0.75, 1.0])
matrices = st.integers(1, 6).flatmap(
    lambda T: st.lists(st.lists(scores, min_size=T, max_size=T), min_size=T, max_size=T)
)


def lower(C) -> np.ndarray:
    return np.where(np.tri(len(C), dtype=bool), np.array(C), np.nan)


@given(matrices)
def test_figures_are_the_loops(C) -> None:
    T = len(C)
    pairs = [(t, k) for t in range(T) for k in range(t)]
    wins = [C[t][k] > C[k][k] for t, k in pairs]
    assert [tuple(pair) for pair in np.argwhere(bct(lower(C)))] == [
        p for p, win in zip(pairs, wins, strict=True) if win
    ]
    everything = [C[t][k] for t in range(T) for k in range(t + 1)]
    assert am(lower(C)) == pytest.approx(2 / (T * (T + 1)) * sum(everything))
    if T > 1:
        assert ac(lower(C)) == pytest.approx(2 / (T * (T - 1)) * sum(wins))
        gains = [C[T - 1][k] - C[k][k] for k in range(T - 1)]
        assert bc(lower(C)) == pytest.approx(sum(gains) / (T - 1), abs=1e-12)


def test_one_generation_is_compatible_with_nothing() -> None:
    C = np.array([[0.8]])
    assert am(C) == 0.8
    assert not bct(C).any()
    assert np.isnan([ac(C), bc(C)]).all()


def test_unmeasured_is_not_counted_as_incompatible() -> None:
    C = np.array([[0.5, 0], [math.nan, 0.6]])
    assert np.isnan([ac(C), am(C), bc(C)]).all()
    assert not bct(C).any()


@given(st.lists(st.tuples(st.floats(0.01, 1), scores), min_size=2, max_size=8))
def test_backfill_area_is_the_trapezia(points) -> None:
    steps = np.array([step for step, _ in points[1:]])
    fractions = np.concatenate([[0.0], np.cumsum(steps) / steps.sum()])
    fractions[-1] = 1.0
    values = [value for _, value in points]
    area = sum((fractions[i + 1] - fractions[i]) * (values[i] + values[i + 1]) / 2 for i in range(len(values) - 1))
    assert backfill_area(fractions, np.array(values)) == pytest.approx(area)


@pytest.mark.parametrize(
    "fractions", [[0.0, 0.5], [0.1, 1.0], [0.0, 0.0, 1.0], [1.0, 0.0], [1.0], [0.0, math.nan, 1.0]]
)
def test_a_curve_from_elsewhere_is_refused(fractions) -> None:
    with pytest.raises(DataError, match="rises from 0 to 1"):
        backfill_area(fractions, np.ones(len(fractions)))
    with pytest.raises(DataError, match="one score for each"):
        backfill_area(fractions, np.ones(7))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_negative_flips_are_the_loops(answers) -> None:
    before, after = (np.array(column) for column in zip(*answers, strict=True))
    flips = [i for i, (was, now) in enumerate(answers) if was and not now]
    assert negative_flips(before, after).tolist() == flips
    assert negative_flip_rate(before, after) == len(flips) / len(answers)


def test_flips_need_the_same_queries() -> None:
    assert math.isnan(negative_flip_rate(np.array([], bool), np.array([], bool)))
    with pytest.raises(DataError, match="the same queries"):
        negative_flips(np.array([True]), np.array([True, False]))


def test_retained() -> None:
    assert retained(0.6, 0.8) == pytest.approx(0.75)
    assert math.isnan(retained(0.6, 0.0))


def test_retained_by_session_leaves_out_what_was_not_learned_or_not_measured() -> None:
    shares = retained_by_session([[0.5, 0.2, None], [0.25, 0.0, None], [None, 0.3, 0.4]])
    assert shares == [[1.0, None, None], [0.5, None, None], [None, None, 1.0]]


@given(matrices)
def test_the_summary_says_what_the_figures_say(C) -> None:
    T = len(C)
    summary = compatibility_summary([[C[t][k] if k <= t else None for k in range(T)] for t in range(T)])
    assert summary["am"] == am(lower(C))
    assert summary["bct"] == [[C[t][k] > C[k][k] if k < t else None for k in range(T)] for t in range(T)]
    if T > 1:
        assert (summary["ac"], summary["bc"]) == (ac(lower(C)), bc(lower(C)))
    else:
        assert summary["ac"] is summary["bc"] is None


def test_a_pair_that_was_not_measured_has_no_verdict() -> None:
    summary = compatibility_summary([[None, None, None], [0.5, 0.6, None], [0.7, 0.8, 0.9]])
    assert summary["bct"] == [[None] * 3, [None] * 3, [None, True, None]]
    assert summary["ac"] is summary["am"] is summary["bc"] is None


@pytest.mark.parametrize("figure", [bct, ac, am, bc])
def test_other_shapes_are_refused(figure) -> None:
    with pytest.raises(DataError, match="C has the shape"):
        figure(np.zeros((2, 3)))
