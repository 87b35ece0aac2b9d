from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scrubjay.gallery.calibration import Calibration
from scrubjay.gate.decision import (
    CONFIDENCE,
    GateOptions,
    decide,
    images_needed,
    lower_bound_of_share,
    upper_bound_of_mean,
    upper_bound_of_ratio,
)
from scrubjay.gate.probe_set import Probe
from scrubjay.gate.report import Check, Figures
from scrubjay.gate.view import GallerySlice, GalleryView
from scrubjay.types import Sample

SAME = Calibration(10, -5)


def probes(*labels: str) -> list[Probe]:
    return [
        Probe(f"probe{number}", label, "g0", f"{number}.jpg", Sample(Path(f"{number}.jpg"), 0))
        for number, label in enumerate(labels)
    ]


def view(
    asked: Sequence[Probe],
    cosines: Sequence[Sequence[float]],
    labels: Sequence[str | None],
    ids: list[str] | None = None,
) -> GalleryView:
    """A gallery in one space with given cosines between the probe images and its items."""
    names = ids or [f"item{number}" for number in range(len(labels))]
    part = GallerySlice(
        "space", names, [f"{name}.jpg" for name in names], labels, np.eye(len(labels), dtype=np.float32)
    )
    return GalleryView(asked, [part], [np.array(cosines, dtype=np.float32)], [SAME])


def finding(found: Sequence[bool]) -> tuple[GalleryView, list[Probe]]:
    """A gallery of an apple and a pear, for which so many probe images of apples have the apple first."""
    asked = probes(*["apple"] * len(found))
    return view(asked, [[0.9, 0.1] if right else [0.1, 0.9] for right in found], ["apple", "pear"]), asked


def check(checks: tuple[Check, ...], name: str) -> Check:
    (one,) = (each for each in checks if each.name == name)
    return one


def test_groups_retention_flips_and_gain_by_hand() -> None:
    asked = probes("apple", "apple", "fig")
    labels = ["apple", "apple", "pear", "fig"]
    before = view(asked, [[0.9, 0.8, 0.1, 0.2], [0.9, 0.8, 0.7, 0.1], [0.6, 0.5, 0.4, 0.3]], labels)
    after = view(asked, [[0.9, 0.8, 0.1, 0.2], [0.5, 0.4, 0.7, 0.6], [0.1, 0.2, 0.3, 0.9]], labels)
    decision = decide(["apple", "pear"], before, after, GateOptions())
    old, new, seen = (decision.groups[name] for name in ("old", "new", "seen"))
    assert (old.classes, old.queries, old.before) == (1, 2, Figures(1.0, 1.0))
    assert old.after == Figures(0.5, pytest.approx((1 + 0.25) / 2))
    assert (new.before.recall_at_1, new.after.recall_at_1, seen.queries) == (0, 1, 3)
    measured = {each.name: each.measured for each in decision.checks}
    assert measured == {"old_retention": 0.5, "negative_flips": 0.5, "new_gain": 1.0}
    (flip,) = decision.flips
    assert (flip.image, flip.label) == ("1.jpg", "apple")
    assert (flip.before.label, flip.after.label, flip.after.uri) == ("apple", "pear", "item2.jpg")
    assert flip.after.match == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-4)


def test_old_classes_are_searched_among_old_items_only() -> None:
    asked = probes("apple")
    labels: list[str | None] = ["apple", "fig"]
    decision = decide(["apple"], view(asked, [[0.5, 0.1]], labels), view(asked, [[0.5, 0.9]], labels), GateOptions())
    assert decision.groups["old"].after.recall_at_1 == 1
    assert decision.groups["seen"].after.recall_at_1 == 0
    assert check(decision.checks, "negative_flips").measured == 1, "a flip is what the user sees: among all items"


def test_a_probe_image_never_finds_itself() -> None:
    labels: list[str | None] = ["apple", "pear", "apple"]
    gallery = view(probes("apple"), [[1.0, 0.9, 0.8]], labels, ["probe0", "x", "y"])
    assert Figures.of(gallery.evaluate()) == Figures(0.0, 0.0)
    no_match_scores, match_scores = gallery.best_match_scores()
    assert no_match_scores == [pytest.approx(1 / (1 + np.exp(-4)))]
    assert match_scores == [pytest.approx(1 / (1 + np.exp(-3)))]


def test_items_without_a_label_distract_and_are_never_right() -> None:
    asked = probes("apple")
    assert Figures.of(view(asked, [[0.5, 0.9]], ["apple", None]).evaluate()) == Figures(0.0, 0.0)
    assert Figures.of(view(asked, [[0.5]], [None]).evaluate()) is None


def test_without_old_probe_images_it_fails() -> None:
    labels: list[str | None] = ["fig"]
    asked = probes("fig")
    decision = decide(["apple"], view(asked, [[0.1]], labels), view(asked, [[0.2]], labels), GateOptions())
    assert "old" not in decision.groups
    assert [each.passed for each in decision.checks][:2] == [None, None]
    assert decision.unjudged == ("apple",)
    assert decision.reasons == (
        "no probe image of an old class has a match in the gallery: nothing says whether they are kept",
    )


def test_one_image_that_flips_by_chance_does_not_fail_the_gate() -> None:
    """2 % of 50 images is one image; a point estimate would fail at the second one that is lost."""
    before, _ = finding([True] * 50)
    after, _ = finding([False] * 2 + [True] * 48)
    decision = decide(["apple", "pear"], before, after, GateOptions())
    flips = check(decision.checks, "negative_flips")
    assert (flips.measured, flips.images, flips.images_needed, flips.passed) == (0.04, 50, 149, True)
    assert flips.bound is not None
    assert flips.bound < 0.02
    assert decision.reasons == ()


def test_evidence_against_a_limit_fails_the_gate_and_names_it() -> None:
    before, _ = finding([True] * 50)
    after, _ = finding([False] * 8 + [True] * 42)
    decision = decide(["apple", "pear"], before, after, GateOptions())
    assert [reason.split()[0] for reason in decision.reasons] == ["old_retention", "negative_flips"]
    assert "at most 0.9" in decision.reasons[0]
    assert "of 50 images" in decision.reasons[1]


def test_the_number_of_images_decides_whether_the_same_share_is_evidence() -> None:
    for images, passed in ((20, True), (400, False)):
        lost = images // 20
        before, _ = finding([True] * images)
        after, _ = finding([False] * lost + [True] * (images - lost))
        decision = decide(["apple", "pear"], before, after, GateOptions(old_retention=0.0))
        assert check(decision.checks, "negative_flips").passed is passed


def test_new_classes_that_are_lost_fail_the_gate() -> None:
    before, _ = finding([True] * 20)
    after, _ = finding([False] * 10 + [True] * 10)
    decision = decide(["fig"], before, after, GateOptions())
    assert check(decision.checks, "new_gain").passed is False
    assert check(decision.checks, "new_gain").measured == -0.5


@given(st.integers(0, 40), st.integers(1, 40))
def test_the_bound_of_a_share_is_where_the_binomial_tail_has_the_error_rate(successes: int, more: int) -> None:
    trials = successes + more
    bound = lower_bound_of_share(successes, trials)
    if successes:
        assert stats.binom.sf(successes - 1, trials, bound) == pytest.approx(1 - CONFIDENCE, abs=1e-9)
    else:
        assert bound == 0


@given(st.lists(st.tuples(*[st.integers(0, 20).map(lambda value: value / 20)] * 2), min_size=2, max_size=30))
def test_the_bound_of_a_ratio_is_where_the_t_test_just_does_not_reject(pairs: list[tuple[float, float]]) -> None:
    after, before = (np.array(column) for column in zip(*pairs, strict=True))
    bound = upper_bound_of_ratio(after, before)
    if np.isfinite(bound):
        assert upper_bound_of_mean(after - bound * before) == pytest.approx(0, abs=1e-6 * max(1, bound))
        assert bound >= after.mean() / before.mean() - 1e-6


@given(st.integers(2, 40), st.integers(1, 99), st.integers(1, 100))
def test_a_uniform_loss_without_spread_is_evidence(number: int, after: int, before: int) -> None:
    bound = upper_bound_of_ratio(np.full(number, after / 100), np.full(number, before / 100))
    assert bound == pytest.approx(after / before, rel=1e-4)


def test_too_few_images_support_no_conclusion() -> None:
    assert upper_bound_of_mean(np.array([0.5])) == np.inf
    assert upper_bound_of_ratio(np.array([0.0]), np.array([1.0])) == np.inf
    assert upper_bound_of_ratio(np.zeros(5), np.zeros(5)) == np.inf


@given(st.floats(0.001, 0.5))
def test_so_many_images_without_a_loss_show_that_a_limit_is_kept(allowed: float) -> None:
    number = images_needed(allowed)
    assert number is not None
    assert (1 - allowed) ** number <= 1 - CONFIDENCE < (1 - allowed) ** (number - 1)


def test_slices_with_calibrations_of_their_own_are_merged_by_them() -> None:
    slices = [
        GallerySlice(name, [name], [name], [label], np.eye(1, dtype=np.float32))
        for name, label in (("a", "x"), ("b", "y"))
    ]
    cosines = [np.array([[0.5]], np.float32), np.array([[0.9]], np.float32)]
    plain = GalleryView(probes("x"), slices, cosines, [SAME, SAME])
    scaled = GalleryView(probes("x"), slices, cosines, [SAME, Calibration(1, -3)])
    assert plain.first_items().tolist() == [1]
    assert scaled.first_items().tolist() == [0]


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.data())
def test_a_view_of_some_queries_is_their_part_of_the_whole(found: list[bool], data: st.DataObject) -> None:
    whole, asked = finding(found)
    rows = np.array(data.draw(st.lists(st.integers(0, len(asked) - 1), min_size=1, max_size=5)))
    part = whole.only(rows)
    np.testing.assert_array_equal(part.scores, whole.scores[rows])
    for row, one in itertools.product(range(len(rows)), (part,)):
        assert one.probes[row] == asked[rows[row]]
