from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrubjay.gallery.calibration import (
    ALIKE,
    SMALL,
    STEEP,
    TOP,
    Calibration,
    Pairs,
    fit_calibration,
    fit_calibrations,
    probability,
)


def pairs(seed: int, slope: float, items: int = 30, queries: int = 40, shift: float = 0.0, classes: int = 5) -> Pairs:
    """Cosines whose matches are higher by a step; the noise is the greater the flatter the leg."""
    draw = np.random.default_rng(seed)
    asked = np.random.default_rng(7).integers(0, classes, queries)
    matches = asked[:, None] == draw.integers(0, classes, items)[None, :]
    noise = draw.normal(0, 0.12, (queries, items))
    cosines = np.clip(shift + slope * (0.35 * matches + noise), -1, 1)
    return Pairs(cosines, matches, np.ones_like(matches))


def likelihood(calibrations: list[Calibration], legs: list[Pairs]) -> float:
    """Mean over queries and their matches of log(e^s / Σ e^s), by loops."""
    total = []
    for query in range(len(legs[0].cosines)):
        scores, relevant = [], []
        for calibration, leg in zip(calibrations, legs, strict=True):
            for item in range(leg.cosines.shape[1]):
                if leg.counted[query, item]:
                    scores.append(calibration.slope * leg.cosines[query, item] + calibration.offset)
                    relevant.append(leg.matches[query, item])
        if any(relevant) and not all(relevant):
            norm = np.log(sum(np.exp(scores)))
            total.append(np.mean([score - norm for score, match in zip(scores, relevant, strict=True) if match]))
    return float(np.mean(total))


def test_the_lines_of_two_legs_are_the_most_likely_ones() -> None:
    legs = [pairs(0, 1.0), pairs(1, 0.5, shift=-0.1)]
    found = fit_calibrations(legs)
    scale = _scale(found, legs)
    raw = [Calibration(each.slope / scale, each.offset / scale) for each in found]
    best = likelihood(raw, legs)
    slack = 4 * (ALIKE + SMALL)  # what the penalty may cost
    for leg in (0, 1):
        for slope, offset in ((1.3, 0.0), (0.7, 0.0), (1.0, 1.0), (1.0, -1.0)):
            moved = list(raw)
            moved[leg] = Calibration(slope * raw[leg].slope, raw[leg].offset + offset)
            assert likelihood(moved, legs) < best + slack
    assert likelihood(raw, legs) > likelihood([raw[0], raw[0]], legs) + 0.1


def _scale(found: list[Calibration], legs: list[Pairs]) -> float:
    """Of the last line, the one that all legs share: the likelihood has its optimum where it is taken back."""
    tried = np.geomspace(0.2, 5, 60)
    scores = [likelihood([Calibration(f.slope / t, f.offset / t) for f in found], legs) for t in tried]
    return float(tried[int(np.argmax(scores))])


def test_a_flatter_leg_gets_a_steeper_line_and_merging_profits() -> None:
    home, away = pairs(0, 1.0), pairs(1, 0.4, shift=0.3)
    first, second = fit_calibrations([home, away])
    assert second.slope > 1.5 * first.slope
    raw = _found_first([Calibration(), Calibration()], [home, away])
    assert _found_first([first, second], [home, away]) >= raw
    held = [pairs(2, 1.0), pairs(3, 0.4, shift=0.3)]
    assert _precision([first, second], held) > _precision([Calibration(), Calibration()], held) + 0.02


def _merged(calibrations: list[Calibration], legs: list[Pairs]) -> tuple[np.ndarray, np.ndarray]:
    scores = np.hstack([each(leg.cosines) for each, leg in zip(calibrations, legs, strict=True)])
    return scores, np.hstack([leg.matches for leg in legs])


def _found_first(calibrations: list[Calibration], legs: list[Pairs]) -> float:
    scores, matches = _merged(calibrations, legs)
    return float(matches[np.arange(len(scores)), scores.argmax(axis=1)].mean())


def _precision(calibrations: list[Calibration], legs: list[Pairs]) -> float:
    scores, matches = _merged(calibrations, legs)
    ranked = np.take_along_axis(matches, np.argsort(-scores, axis=1), 1)
    return float(np.mean([row[: row.sum()].mean() for row in ranked]))


def test_log_odds_are_those_of_a_match() -> None:
    legs = [pairs(0, 1.0), pairs(1, 0.5)]
    scores, matches = _merged(fit_calibrations(legs), legs)
    order = np.argsort(-scores, axis=1)[:, :TOP]
    kept = probability(np.take_along_axis(scores, order, 1))
    assert kept.mean() == pytest.approx(np.take_along_axis(matches, order, 1).mean(), abs=0.01)


def test_one_leg_is_the_logistic_regression_of_its_pairs() -> None:
    leg = pairs(0, 1.0, items=TOP)
    found = fit_calibration(leg.cosines, leg.matches, leg.counted)
    c, y = leg.cosines.ravel(), leg.matches.ravel()
    target = np.where(y, (y.sum() + 1) / (y.sum() + 2), 1 / ((~y).sum() + 2))

    def loss(slope: float, offset: float) -> float:
        return sum(
            float(np.log1p(np.exp(slope * x + offset)) - t * (slope * x + offset))
            for x, t in zip(c, target, strict=True)
        )

    best = loss(found.slope, found.offset)
    for slope, offset in ((0.1, 0), (-0.1, 0), (0, 0.05), (0, -0.05)):
        assert loss(found.slope + slope, found.offset + offset) > best


def test_what_does_not_count_is_not_learned_from() -> None:
    leg = pairs(0, 1.0)
    cosines, matches, counted = leg.cosines.copy(), leg.matches.copy(), leg.counted.copy()
    counted[:, 3] = False
    cosines[:, 3], matches[:, 3] = 1.0, False
    found = fit_calibration(cosines, matches, counted)
    left = fit_calibration(np.delete(cosines, 3, 1), np.delete(matches, 3, 1), np.delete(counted, 3, 1))
    assert (found.slope, found.offset) == pytest.approx((left.slope, left.offset))


def test_nothing_to_learn_from_gives_the_default() -> None:
    leg = pairs(0, 1.0)
    nothing = np.zeros_like(leg.matches)
    assert fit_calibrations([]) == []
    assert fit_calibration(leg.cosines, nothing, leg.counted) == Calibration()
    assert fit_calibration(leg.cosines, ~nothing, leg.counted) == Calibration()
    assert fit_calibration(leg.cosines, leg.matches, nothing) == Calibration()
    empty = Pairs(leg.cosines[:, :0], leg.matches[:, :0], leg.counted[:, :0])
    assert fit_calibrations([empty, empty]) == [Calibration(), Calibration()]
    first, _ = fit_calibrations([leg, empty])
    assert first.slope == pytest.approx(fit_calibration(leg.cosines, leg.matches, leg.counted).slope, rel=0.2)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=4),
    st.integers(1, 6),
    st.sampled_from(["noise", "separated", "reversed", "constant"]),
)
def test_every_line_rises_and_is_finite(seed: int, items: list[int], queries: int, kind: str) -> None:
    draw = np.random.default_rng(seed)
    legs = []
    for number in items:
        matches = draw.random((queries, number)) < 0.4
        sign = {"noise": 0, "separated": 1, "reversed": -1, "constant": 0}[kind]
        noise = 0.0 if kind == "constant" else draw.normal(0, 0.05, matches.shape)
        legs.append(Pairs(np.clip(0.5 * sign * matches + noise, -1, 1), matches, draw.random(matches.shape) < 0.8))
    for calibration in fit_calibrations(legs):
        assert np.isfinite([calibration.slope, calibration.offset]).all()
        assert calibration.slope > 0
        low, high = calibration(np.array([0.1, 0.2]))
        assert low < high
        assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration


def test_scores_that_mislead_still_rank_by_cosine() -> None:
    leg = pairs(0, 1.0)
    found = fit_calibration(-leg.cosines, leg.matches, leg.counted)
    assert 0 < found.slope <= STEEP * 1.01


@pytest.mark.parametrize(
    "values", [{}, {"slope": 0, "offset": 0}, {"slope": -1.0, "offset": 0}, {"slope": 1, "offset": None}]
)
def test_what_is_no_calibration_is_refused(values: dict[str, float]) -> None:
    with pytest.raises((KeyError, ValueError, TypeError)):
        Calibration.from_json(values)


def test_probability_is_the_logistic_function_and_never_overflows() -> None:
    for x in (-3.0, 0.0, 0.5, 7.0):
        assert float(probability(x)) == pytest.approx(1 / (1 + np.exp(-x)))
    assert probability([-1e9, 1e9]).tolist() == [0.0, 1.0]
