from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrubjay.gallery.calibration import (
    BEST_ITEMS,
    MIN_SLOPE,
    POOLING_PENALTY,
    RIDGE_PENALTY,
    Calibration,
    ScoredPairs,
    fit_calibration,
    fit_calibrations,
    probability,
)


def pairs(
    seed: int, slope: float, items: int = 30, queries: int = 40, shift: float = 0.0, classes: int = 5
) -> ScoredPairs:
    """Random pairs in one space: cosines of matches are higher by a step; the slope scales step and noise."""
    draw = np.random.default_rng(seed)
    asked = np.random.default_rng(7).integers(0, classes, queries)
    matches = asked[:, None] == draw.integers(0, classes, items)[None, :]
    noise = draw.normal(0, 0.12, (queries, items))
    cosines = np.clip(shift + slope * (0.35 * matches + noise), -1, 1)
    return ScoredPairs(cosines, matches, np.ones_like(matches))


def likelihood(calibrations: list[Calibration], spaces: list[ScoredPairs]) -> float:
    """Mean over queries and their matches of log(e^s / Σ e^s), by loops."""
    total = []
    for query in range(len(spaces[0].cosines)):
        scores, relevant = [], []
        for calibration, space in zip(calibrations, spaces, strict=True):
            for item in range(space.cosines.shape[1]):
                if space.counted[query, item]:
                    scores.append(calibration.slope * space.cosines[query, item] + calibration.offset)
                    relevant.append(space.matches[query, item])
        if any(relevant) and not all(relevant):
            norm = np.log(sum(np.exp(scores)))
            total.append(np.mean([score - norm for score, match in zip(scores, relevant, strict=True) if match]))
    return float(np.mean(total))


def test_calibrations_of_two_spaces_maximise_the_likelihood() -> None:
    spaces = [pairs(0, 1.0), pairs(1, 0.5, shift=-0.1)]
    found = fit_calibrations(spaces)
    scale = _scale(found, spaces)
    raw = [Calibration(each.slope / scale, each.offset / scale) for each in found]
    best = likelihood(raw, spaces)
    slack = 4 * (POOLING_PENALTY + RIDGE_PENALTY)  # loss of likelihood that the penalties may cause
    for index in (0, 1):
        for slope, offset in ((1.3, 0.0), (0.7, 0.0), (1.0, 1.0), (1.0, -1.0)):
            moved = list(raw)
            moved[index] = Calibration(slope * raw[index].slope, raw[index].offset + offset)
            assert likelihood(moved, spaces) < best + slack
    assert likelihood(raw, spaces) > likelihood([raw[0], raw[0]], spaces) + 0.1


def _scale(found: list[Calibration], spaces: list[ScoredPairs]) -> float:
    """Scale of the last line, which all spaces share: the likelihood is greatest where that line is undone."""
    tried = np.geomspace(0.2, 5, 60)
    scores = [likelihood([Calibration(f.slope / t, f.offset / t) for f in found], spaces) for t in tried]
    return float(tried[int(np.argmax(scores))])


def test_a_space_of_lower_contrast_gets_a_steeper_line_and_merging_profits() -> None:
    own, bridged = pairs(0, 1.0), pairs(1, 0.4, shift=0.3)
    first, second = fit_calibrations([own, bridged])
    assert second.slope > 1.5 * first.slope
    raw = _found_first([Calibration(), Calibration()], [own, bridged])
    assert _found_first([first, second], [own, bridged]) >= raw
    held = [pairs(2, 1.0), pairs(3, 0.4, shift=0.3)]
    assert _precision([first, second], held) > _precision([Calibration(), Calibration()], held) + 0.02


def _merged(calibrations: list[Calibration], spaces: list[ScoredPairs]) -> tuple[np.ndarray, np.ndarray]:
    scores = np.hstack([each(space.cosines) for each, space in zip(calibrations, spaces, strict=True)])
    return scores, np.hstack([space.matches for space in spaces])


def _found_first(calibrations: list[Calibration], spaces: list[ScoredPairs]) -> float:
    scores, matches = _merged(calibrations, spaces)
    return float(matches[np.arange(len(scores)), scores.argmax(axis=1)].mean())


def _precision(calibrations: list[Calibration], spaces: list[ScoredPairs]) -> float:
    scores, matches = _merged(calibrations, spaces)
    ranked = np.take_along_axis(matches, np.argsort(-scores, axis=1), 1)
    return float(np.mean([row[: row.sum()].mean() for row in ranked]))


def test_log_odds_are_those_of_a_match() -> None:
    spaces = [pairs(0, 1.0), pairs(1, 0.5)]
    scores, matches = _merged(fit_calibrations(spaces), spaces)
    order = np.argsort(-scores, axis=1)[:, :BEST_ITEMS]
    kept = probability(np.take_along_axis(scores, order, 1))
    assert kept.mean() == pytest.approx(np.take_along_axis(matches, order, 1).mean(), abs=0.01)


def test_one_space_is_the_logistic_regression_of_its_pairs() -> None:
    space = pairs(0, 1.0, items=BEST_ITEMS)
    found = fit_calibration(space.cosines, space.matches, space.counted)
    c, y = space.cosines.ravel(), space.matches.ravel()
    target = np.where(y, (y.sum() + 1) / (y.sum() + 2), 1 / ((~y).sum() + 2))

    def loss(slope: float, offset: float) -> float:
        return sum(
            float(np.log1p(np.exp(slope * x + offset)) - t * (slope * x + offset))
            for x, t in zip(c, target, strict=True)
        )

    best = loss(found.slope, found.offset)
    for slope, offset in ((0.1, 0), (-0.1, 0), (0, 0.05), (0, -0.05)):
        assert loss(found.slope + slope, found.offset + offset) > best


def test_pairs_that_do_not_count_are_ignored() -> None:
    space = pairs(0, 1.0)
    cosines, matches, counted = space.cosines.copy(), space.matches.copy(), space.counted.copy()
    counted[:, 3] = False
    cosines[:, 3], matches[:, 3] = 1.0, False
    found = fit_calibration(cosines, matches, counted)
    left = fit_calibration(np.delete(cosines, 3, 1), np.delete(matches, 3, 1), np.delete(counted, 3, 1))
    assert (found.slope, found.offset) == pytest.approx((left.slope, left.offset))


def test_without_matches_and_non_matches_the_default_is_returned() -> None:
    space = pairs(0, 1.0)
    nothing = np.zeros_like(space.matches)
    assert fit_calibrations([]) == []
    assert fit_calibration(space.cosines, nothing, space.counted) == Calibration()
    assert fit_calibration(space.cosines, ~nothing, space.counted) == Calibration()
    assert fit_calibration(space.cosines, space.matches, nothing) == Calibration()
    empty = ScoredPairs(space.cosines[:, :0], space.matches[:, :0], space.counted[:, :0])
    assert fit_calibrations([empty, empty]) == [Calibration(), Calibration()]
    first, _ = fit_calibrations([space, empty])
    assert first.slope == pytest.approx(fit_calibration(space.cosines, space.matches, space.counted).slope, rel=0.2)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=4),
    st.integers(1, 6),
    st.sampled_from(["noise", "separated", "reversed", "constant"]),
)
def test_every_line_rises_and_is_finite(seed: int, items: list[int], queries: int, kind: str) -> None:
    draw = np.random.default_rng(seed)
    spaces = []
    for number in items:
        matches = draw.random((queries, number)) < 0.4
        sign = {"noise": 0, "separated": 1, "reversed": -1, "constant": 0}[kind]
        noise = 0.0 if kind == "constant" else draw.normal(0, 0.05, matches.shape)
        spaces.append(
            ScoredPairs(np.clip(0.5 * sign * matches + noise, -1, 1), matches, draw.random(matches.shape) < 0.8)
        )
    for calibration in fit_calibrations(spaces):
        assert np.isfinite([calibration.slope, calibration.offset]).all()
        assert calibration.slope > 0
        low, high = calibration(np.array([0.1, 0.2]))
        assert low < high
        assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration


def test_scores_that_mislead_still_rank_by_cosine() -> None:
    space = pairs(0, 1.0)
    found = fit_calibration(-space.cosines, space.matches, space.counted)
    assert 0 < found.slope <= MIN_SLOPE * 1.01


@pytest.mark.parametrize(
    "values", [{}, {"slope": 0, "offset": 0}, {"slope": -1.0, "offset": 0}, {"slope": 1, "offset": None}]
)
def test_invalid_values_of_a_calibration_are_refused(values: dict[str, float]) -> None:
    with pytest.raises((KeyError, ValueError, TypeError)):
        Calibration.from_json(values)


def test_probability_is_the_logistic_function_and_never_overflows() -> None:
    for x in (-3.0, 0.0, 0.5, 7.0):
        assert float(probability(x)) == pytest.approx(1 / (1 + np.exp(-x)))
    assert probability([-1e9, 1e9]).tolist() == [0.0, 1.0]
