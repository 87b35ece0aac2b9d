from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from scrubjay.gallery.calibration import conformal_threshold
from scrubjay.search.novelty import ALARM_LIMIT, WINDOW, Novelty, expected_share, grouped, message, novelty, wealth
from scrubjay.search.query_log import Query

SCORES = st.lists(st.floats(-1, 1), min_size=1, max_size=60)


def query(number: int, matched: bool | None = True, vector=(1.0, 0.0), content: str | None = None) -> Query:
    vector = np.array(vector, np.float32)
    return Query(f"/{number}.jpg", content or f"{number:032x}", "g1", vector, (), matched, 1.0, id=number)


@given(SCORES, st.floats(0.01, 0.99))
def test_threshold_is_the_least_score_with_enough_scores_at_or_below(scores, rate):
    n = len(scores)
    found = conformal_threshold(np.array(scores), rate)
    needed = (n + 1) * (1 - rate) - 1e-9
    enough = [s for s in scores if sum(other <= s for other in scores) >= needed]
    assert found == (min(enough) if enough else math.inf)


@given(SCORES, st.floats(0.01, 0.5), st.floats(0.01, 0.5))
def test_fewer_false_matches_need_higher_scores(scores, one, other):
    assert conformal_threshold(np.array(scores), min(one, other)) >= conformal_threshold(
        np.array(scores), max(one, other)
    )


@given(SCORES, st.floats(0.01, 0.99), st.randoms())
def test_order_of_scores_does_not_matter(scores, rate, random):
    shuffled = random.sample(scores, len(scores))
    assert conformal_threshold(np.array(shuffled), rate) == conformal_threshold(np.array(scores), rate)


@given(st.integers(0, 200), st.sampled_from([0.01, 0.05, 0.1, 0.2]))
def test_too_few_scores_claim_no_match(n, rate):
    assert math.isinf(conformal_threshold(np.linspace(0, 1, n), rate)) == (n < round(1 / rate) - 1)


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (30, 0.1), (100, 0.05), (100, 0.3)])
def test_share_of_false_matches_is_kept(n, rate):
    rng = np.random.default_rng(n)
    rounds = 4000
    false = [conformal_threshold(scores[:-1], rate) < scores[-1] for scores in rng.normal(size=(rounds, n + 1))]
    error = 4 * math.sqrt(rate * (1 - rate) / rounds)
    assert np.mean(false) <= rate + error
    assert np.mean(false) >= rate - 1 / (n + 1) - error, "no more matches are refused than necessary"


@pytest.mark.parametrize(("missed", "n"), [(0, 10), (1, 20), (7, 40), (39, 40)])
def test_expected_share_is_the_bound_of_clopper_and_pearson(missed, n):
    known = [0.2] * missed + [0.9] * (n - missed)
    assert binom.cdf(missed, n, expected_share(known, 0.5)) == pytest.approx(0.05)


def test_score_at_the_threshold_is_missed():
    assert expected_share([0.5] * 3 + [0.6] * 7, 0.5) == expected_share([0.1] * 3 + [0.9] * 7, 0.5)


def test_without_match_scores_nothing_raises_an_alarm():
    assert expected_share([], 0.5) == expected_share([0.1], 0.5) == 1.0
    assert wealth([True] * 1000, 1.0) == 1.0


def test_expected_share_is_an_upper_bound_as_often_as_promised():
    rng = np.random.default_rng(0)
    held = [expected_share(rng.uniform(size=60), 0.15) >= 0.15 for _ in range(2000)]
    assert np.mean(held) >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / 2000)


def test_wealth_is_the_mean_over_bets():
    unmatched, p0 = [True, False, False, True, True], 0.2
    reached = []
    for bet in (0.1, 0.3, 0.6):
        w = 1.0
        for x in unmatched:
            w = max(w, 1.0) * (1 + bet / p0 * (int(x) - p0))
        reached.append(w)
    assert wealth(unmatched, p0) == pytest.approx(sum(reached) / 3)


@given(st.floats(0.01, 0.99))
def test_one_bet_gains_nothing_on_average(p0):
    assert p0 * wealth([True], p0) + (1 - p0) * wealth([False], p0) == pytest.approx(1)


def first_alarm(unmatched: np.ndarray, p0: float) -> np.ndarray:
    """The query (from 1) at which each row first raises an alarm; length + 1 for none. Like `wealth`, for many rows."""
    bets = np.array([0.1, 0.3, 0.6])[:, None]
    w, first = np.ones((3, len(unmatched))), np.full(len(unmatched), unmatched.shape[1] + 1)
    for t, x in enumerate(unmatched.T, 1):
        w = np.maximum(w, 1) * (1 + bets / p0 * (x - p0))
        first = np.where((w.mean(0) >= ALARM_LIMIT) & (first > t), t, first)
    return first


def test_simulation_and_module_agree():
    unmatched = np.random.default_rng(1).random((3, 80)) < 0.4
    for row, first in zip(unmatched, first_alarm(unmatched, 0.05), strict=True):
        assert 1 < first <= 80
        assert wealth(row[:first].tolist(), 0.05) >= ALARM_LIMIT > wealth(row[: first - 1].tolist(), 0.05)


@pytest.mark.parametrize("p0", [0.02, 0.1, 0.3])
def test_false_alarms_are_rare_however_often_one_looks(p0):
    rng = np.random.default_rng(2)
    length, rows = 1000, 600
    first = first_alarm(rng.random((rows, length)) < p0, p0)
    # The mean of min(first, length) alone says little; one alarm in ALARM_LIMIT queries would be 63 % of the rows.
    assert np.mean(first <= length) < 1 - math.exp(-length / ALARM_LIMIT)
    assert np.minimum(first, length).mean() > 0.8 * ALARM_LIMIT


@pytest.mark.parametrize(
    ("p0", "share", "within"), [(0.02, 0.2, 100), (0.05, 0.3, 100), (0.1, 0.3, 150), (0.3, 0.7, 100)]
)
@pytest.mark.parametrize("before", [0, 500])
def test_new_classes_are_noticed_also_after_a_long_calm(p0, share, within, before):
    rng = np.random.default_rng(3)
    calm = rng.random((200, before)) < p0 / 2
    first = first_alarm(np.concatenate([calm, rng.random((200, within)) < share], axis=1), p0)
    assert np.mean(first <= before + within) > 0.95


def test_novelty_counts_each_image_once_as_it_was_last_answered():
    asked = [query(1, False), query(2, None), query(3, True), query(4, True, content=f"{1:032x}"), query(5, False)]
    found = novelty(asked, [0.9] * 50, 0.5, 0.5)
    assert (found.queries, found.unmatched) == (3, 1)
    assert [each.id for group in found.groups for each in group] == [5]


def test_repeated_queries_of_one_image_raise_no_alarm():
    again = [query(i, False, content="ab" * 16) for i in range(500)]
    assert not novelty(again, [0.9] * 100, 0.5, 0.5).alarm


def test_novelty_alarms_on_new_classes_and_shows_the_newest():
    calm = [query(i) for i in range(300)]
    assert not novelty(calm, [0.9] * 100, 0.5, 0.5).alarm
    new = [query(1000 + i, False, [(1, 0, 0), (0, 1, 0), (0, 0, 1)][(i > 20) + (i > 38)]) for i in range(40)]
    found = novelty(calm + new, [0.9] * 100, 0.5, 0.7)
    assert (found.queries, found.unmatched, found.alarm) == (WINDOW, 40, True)
    assert [len(group) for group in found.groups] == [21, 18, 1]
    assert found.expected == pytest.approx(1 - 0.05**0.01)


def test_without_queries_there_is_no_alarm():
    assert novelty([], [0.9] * 10, 0.5, 0.5) == Novelty(0, 0, expected_share([0.9] * 10, 0.5), 1.0, False, ())


def average_linkage(vectors: np.ndarray, min_cosine: float) -> set[frozenset[int]]:
    """Merge the two groups of the highest mean cosine as long as it is at least `min_cosine`."""
    groups = [[i] for i in range(len(vectors))]
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    while len(groups) > 1:
        means = {
            (a, b): np.mean([cosines[i, j] for i in groups[a] for j in groups[b]])
            for a in range(len(groups))
            for b in range(a)
        }
        (a, b), best = max(means.items(), key=lambda each: each[1])
        if best < min_cosine:
            break
        groups[b] += groups.pop(a)
    return {frozenset(group) for group in groups}


@given(st.integers(0, 10_000), st.integers(1, 14), st.floats(-0.9, 0.95))
def test_groups_are_those_of_average_linkage(seed, number, min_cosine):
    vectors = np.random.default_rng(seed).normal(size=(number, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = grouped([query(i, False, vector) for i, vector in enumerate(vectors)], min_cosine)
    assert {frozenset(each.id for each in group) for group in groups} == average_linkage(vectors, min_cosine)
    assert [len(group) for group in groups] == sorted((len(group) for group in groups), reverse=True)


@pytest.mark.parametrize("min_cosine", [1.0, 1.5, -1.0, -2.0])
def test_groups_at_extreme_cosines(min_cosine):
    asked = [query(0, vector=(1, 0)), query(1, vector=(1, 0)), query(2, vector=(-1, 0))]
    assert [len(group) for group in grouped(asked, min_cosine)] == ([2, 1] if min_cosine > 0 else [3])


def test_message_says_how_many_and_only_when_it_is_time():
    one = (query(1, False), query(2, False))
    found = Novelty(200, 37, 0.05, 2000.0, True, (one, one, (query(3, False),)))
    assert message(found) == (
        "time to learn: 37 of the last 200 queries look like new classes (2 groups of two images or more; "
        "without new classes, at most 5% is expected)."
    )
    assert "(1 group of" in message(Novelty(200, 2, 0.05, 2000.0, True, (one,)))
    assert message(Novelty(200, 37, 0.05, 10.0, False, (one,))) is None
