from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scrubjay.gallery.calibration import Calibration
from scrubjay.gate.decision import GateOptions, Part, Standing, best_scores, evaluated, measure
from scrubjay.gate.probe_set import Probe
from scrubjay.types import Sample

SAME = Calibration(10, -5)


def probes(*labels: str) -> list[Probe]:
    return [
        Probe(f"probe{number}", label, "g0", f"{number}.jpg", Sample(Path(f"{number}.jpg"), 0))
        for number, label in enumerate(labels)
    ]


def standing(cosines: list[list[float]], labels: list[str | None], ids: list[str] | None = None) -> Standing:
    """A gallery whose cosines with the queries are given: items are axes, and a query's components its cosines."""
    queries = np.array(cosines, dtype=np.float32)
    names = ids or [f"item{number}" for number in range(len(labels))]
    part = Part("space", names, [f"{name}.jpg" for name in names], labels, np.eye(len(labels), dtype=np.float32))
    return Standing([part], [queries], [SAME])


def test_groups_retention_flips_and_gain_by_hand() -> None:
    asked = probes("apple", "apple", "fig")
    labels = ["apple", "apple", "pear", "fig"]
    before = standing([[0.9, 0.8, 0.1, 0.2], [0.9, 0.8, 0.7, 0.1], [0.6, 0.5, 0.4, 0.3]], labels)
    after = standing([[0.9, 0.8, 0.1, 0.2], [0.5, 0.4, 0.7, 0.6], [0.1, 0.2, 0.3, 0.9]], labels)
    found = measure(asked, ["apple", "pear"], before, after, GateOptions())
    assert found["groups"]["old"] == {
        "classes": 1,
        "queries": 2,
        "before": {"recall@1": 1.0, "map_at_r": 1.0},
        "after": {"recall@1": 0.5, "map_at_r": pytest.approx((1 + 0.25) / 2)},
    }
    assert found["groups"]["new"]["before"]["recall@1"] == 0
    assert found["groups"]["new"]["after"]["recall@1"] == 1
    assert found["groups"]["seen"]["queries"] == 3
    assert (found["old_retention"], found["negative_flips"], found["new_gain"]) == (0.5, 0.5, 1.0)
    (flip,) = found["flips"]
    assert (flip["image"], flip["label"]) == ("1.jpg", "apple")
    assert (flip["before"]["label"], flip["after"]["label"], flip["after"]["uri"]) == ("apple", "pear", "item2.jpg")
    assert flip["after"]["score"] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-4)
    assert not found["passed"]
    assert [reason.split()[0] for reason in found["reasons"]] == ["old_retention", "negative_flips"]


def test_old_classes_are_searched_among_old_items_only() -> None:
    asked = probes("apple")
    labels: list[str | None] = ["apple", "fig"]
    found = measure(asked, ["apple"], standing([[0.5, 0.1]], labels), standing([[0.5, 0.9]], labels), GateOptions())
    assert found["groups"]["old"]["after"]["recall@1"] == 1
    assert found["groups"]["seen"]["after"]["recall@1"] == 0
    assert found["negative_flips"] == 1, "a flip is what the user sees: among all items"


def test_a_probe_image_never_finds_itself() -> None:
    asked = probes("apple")
    labels: list[str | None] = ["apple", "pear", "apple"]
    gallery = standing([[1.0, 0.9, 0.8]], labels, ["probe0", "x", "y"])
    assert evaluated(asked, gallery) == {"recall@1": 0.0, "map_at_r": 0.0}
    unknown, known = best_scores(asked, gallery)
    assert unknown == [pytest.approx(1 / (1 + np.exp(-4)))]
    assert known == [pytest.approx(1 / (1 + np.exp(-3)))]


def test_items_without_a_label_distract_and_are_never_right() -> None:
    asked = probes("apple")
    assert evaluated(asked, standing([[0.5, 0.9]], ["apple", None])) == {"recall@1": 0.0, "map_at_r": 0.0}
    assert evaluated(asked, standing([[0.5]], [None])) is None


def test_without_old_probe_images_it_fails(tmp_path: Path) -> None:
    labels: list[str | None] = ["fig"]
    found = measure(probes("fig"), ["apple"], standing([[0.1]], labels), standing([[0.2]], labels), GateOptions())
    assert found["groups"]["old"] is None
    assert (found["old_retention"], found["negative_flips"], found["unjudged"]) == (None, None, ["apple"])
    assert found["reasons"] == ["no probe image of an old class in the gallery: nothing says whether they are kept"]


def test_thresholds_are_inclusive() -> None:
    labels: list[str | None] = ["apple", "pear"]
    before, after = standing([[0.9, 0.1], [0.9, 0.1]], labels), standing([[0.9, 0.1], [0.1, 0.9]], labels)
    loose = GateOptions(old_retention=0.5, negative_flips=0.5)
    assert measure(probes("apple", "apple"), ["apple", "pear"], before, after, loose)["passed"]
    strict = GateOptions(old_retention=0.51, negative_flips=0.5)
    assert not measure(probes("apple", "apple"), ["apple", "pear"], before, after, strict)["passed"]


def test_parts_with_calibrations_of_their_own_are_merged_by_them() -> None:
    parts = [
        Part(name, [name], [name], [label], np.eye(1, dtype=np.float32)) for name, label in (("a", "x"), ("b", "y"))
    ]
    queries = [np.array([[0.5]], np.float32), np.array([[0.9]], np.float32)]
    raw = Standing(parts, queries, [SAME, SAME])
    scaled = Standing(parts, queries, [SAME, Calibration(1, -3)])
    assert raw.scores().argmax() == 1
    assert scaled.scores().argmax() == 0
