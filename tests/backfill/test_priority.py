from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrubjay.backfill.priority import (
    NEIGHBOURS,
    BackfillQueue,
    Strategy,
    backfill_order,
    expected_errors,
    gains_per_second,
    score_gradients,
)
from scrubjay.errors import ConfigError


def random_queue(number: int, seed: int = 0) -> BackfillQueue:
    draw = np.random.default_rng(seed)
    labels = [None if each == 3 else f"class{each}" for each in draw.integers(0, 4, number)]
    errors, gradients = draw.random(number).round(1), draw.random(number).round(1)
    return BackfillQueue(labels, errors, gradients, draw.random(number).round(1))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 30), st.integers(0, 99), st.sampled_from(get_args(Strategy)))
def test_every_order_is_a_permutation_and_reproducible(number: int, seed: int, strategy: str) -> None:
    items = random_queue(number, seed)
    found = backfill_order(strategy, items, seed)
    assert sorted(found.tolist()) == list(range(number))
    assert found.tolist() == backfill_order(strategy, items, seed).tolist()


def test_each_strategy_orders_by_what_it_names() -> None:
    items = random_queue(40)
    assert np.all(np.diff(gains_per_second(items)[backfill_order("gain", items)]) <= 0)
    assert np.all(np.diff(items.errors[backfill_order("uncertainty", items)]) <= 0)
    labels = [str(items.labels[position]) for position in backfill_order("label", items)]
    assert labels == sorted(labels)
    assert backfill_order("random", items, 0).tolist() != backfill_order("random", items, 1).tolist()


def test_gain_is_divided_by_the_seconds_of_each_item() -> None:
    items = BackfillQueue(["a"] * 3, np.ones(3), np.array([1.0, 1.0, 2.0]), np.array([0.2, 0.1, 0.2]))
    assert backfill_order("gain", items).tolist()[2] == 0
    assert gains_per_second(items).tolist() == pytest.approx([5, 10, 10])


def test_ties_are_shuffled_so_that_equal_gains_are_a_random_order() -> None:
    items = BackfillQueue(["a"] * 30, np.ones(30), np.ones(30), np.zeros(30))
    assert backfill_order("gain", items, 4).tolist() == backfill_order("random", items, 4).tolist()


def test_an_unknown_strategy_is_refused_and_the_known_are_listed() -> None:
    with pytest.raises(ConfigError, match=r"order 'best'.*gain, uncertainty, label, random"):
        backfill_order("best", random_queue(3))


def by_loops(scores: np.ndarray, matches: np.ndarray, counted: np.ndarray) -> list[float]:
    total = [0.0] * scores.shape[1]
    for query in range(len(scores)):
        live = [item for item in range(scores.shape[1]) if counted[query, item]]
        relevant = [item for item in live if matches[query, item]]
        if not relevant:
            continue
        norm = sum(np.exp(scores[query, item]) for item in live)
        for item in live:
            wanted = 1 / len(relevant) if item in relevant else 0.0
            total[item] += abs(np.exp(scores[query, item]) / norm - wanted)
    return total


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 8), st.integers(0, 999))
def test_score_gradients_equal_those_of_loops(queries: int, items: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.normal(0, 3, (queries, items))
    matches, counted = draw.random((queries, items)) < 0.4, draw.random((queries, items)) < 0.8
    expected = by_loops(scores, matches, counted) if (matches & counted).any() else [1.0] * items
    assert score_gradients(scores, matches, counted) == pytest.approx(expected)


def test_score_gradients_are_the_derivative_of_the_ranking_loss() -> None:
    draw = np.random.default_rng(0)
    scores, matches = draw.normal(0, 2, (1, 6)), np.array([[True, False, True, False, False, False]])

    def loss(moved: np.ndarray) -> float:
        return -float(np.mean(moved[0, [0, 2]] - np.log(np.exp(moved[0]).sum())))

    found = score_gradients(scores, matches, np.ones_like(matches))
    for item in range(6):
        step = np.zeros_like(scores)
        step[0, item] = 1e-5
        assert found[item] == pytest.approx(abs(loss(scores + step) - loss(scores - step)) / 2e-5, abs=1e-6)


def test_an_item_above_the_matches_has_a_large_gradient_and_a_distant_one_has_none() -> None:
    scores = np.array([[2.0, 6.0, -9.0, 2.0]])  # a match, a non-match above it, a distant non-match, a match
    gradients = score_gradients(scores, np.array([[True, False, False, True]]), np.ones((1, 4), bool))
    assert gradients[1] > gradients[0] > gradients[2]
    assert gradients[2] < 1e-5
    settled = score_gradients(
        np.array([[9.0, -9.0, -9.0, 9.0]]), np.array([[True, False, False, True]]), np.ones((1, 4), bool)
    )
    assert settled.max() < 1e-5


def test_many_queries_are_processed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    scores, matches = draw.normal(size=(11, 7)), draw.random((11, 7)) < 0.3
    whole = score_gradients(scores, matches, np.ones_like(matches))
    monkeypatch.setattr("scrubjay.backfill.priority._BLOCK", 3)
    assert score_gradients(scores, matches, np.ones_like(matches)) == pytest.approx(whole)


def test_expected_errors_are_the_mean_of_the_nearest() -> None:
    draw = np.random.default_rng(1)
    vectors, known = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in draw.normal(size=(2, 25, 6)))
    errors = draw.random(25)
    found = expected_errors(vectors.astype(np.float32), known.astype(np.float32), errors)
    for row, vector in enumerate(vectors):
        nearest = sorted(range(25), key=lambda other: -float(vector @ known[other]))[:NEIGHBOURS]
        assert found[row] == pytest.approx(np.mean([errors[other] for other in nearest]))
    few = expected_errors(vectors.astype(np.float32), known[:2].astype(np.float32), errors[:2])
    assert few == pytest.approx(np.full(25, errors[:2].mean()))
    assert expected_errors(vectors.astype(np.float32), known[:0].astype(np.float32), errors[:0]).tolist() == [1.0] * 25
