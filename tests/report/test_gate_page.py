"""The gate's report on a page and in a terminal."""

from __future__ import annotations

import math
from typing import Any

import pytest
from PIL import Image
from test_report_html import HOSTILE, Page

from scrubjay.errors import StorageError
from scrubjay.gate.report import BackfillCost, Change, Check, Figures, FirstItem, Flip, GateReport, ReembeddedSample
from scrubjay.generations.generation import BridgeRecord
from scrubjay.report import gate_page
from scrubjay.report.gate_page import SHOWN, change_rows, check_rows, gate_lines, next_steps, page, write_gate_page

CHANGE = Change(80, 20, Figures(0.9, 0.6), Figures(0.855, 0.63))
COST = BackfillCost(5000, 410.0, 12.2)


def checks() -> tuple[Check, ...]:
    return (
        Check("old_retention", 0.95, 0.97, 0.98, "minimum", False, 80, 149),
        Check("negative_flips", 0.0125, 0.0006, 0.02, "maximum", True, 80, 149),
        Check("new_gain", None, None, 0.0, "minimum", None, 0, None),
    )


def report(**changed: Any) -> GateReport:
    figures = {"recall@1": 0.8, "map_at_r": 0.5, "cosine": 0.9123}
    bridge = BridgeRecord(
        chosen="ridge", figures={"identity": figures, "ridge": {**figures, "sample_map_at_r": 0.7654}}
    )
    values: dict[str, Any] = {
        "candidate": "g2",
        "serving": "g1",
        "reasons": ("old_retention 0.950 < 0.98: old classes are found less well",),
        "checks": checks(),
        "groups": {"old": CHANGE, "seen": Change(1, 1, CHANGE.before, CHANGE.after)},
        "bridges": {"to_parent": bridge},
        "backfill": COST,
        "probe_images": 80,
        "created": "2026-01-02T03:04:05+00:00",
    }
    return GateReport(**{**values, **changed})


def flip(image: str, uri: str, label: str = "apple") -> Flip:
    return Flip(image, label, FirstItem(uri, label, 0.81), FirstItem("s3://bucket/pear.jpg", None, 0.77))


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "with space.png"
    Image.new("RGB", (300, 200), (80, 40, 200)).save(path)
    return path


@pytest.mark.parametrize(("reasons", "word"), [((), "PASS"), (("because",), "FAIL")])
def test_the_verdict_comes_first(reasons, word):
    judged = report(reasons=reasons)
    assert gate_lines(judged, "shop")[0].startswith(word)
    shown = Page(page(judged, "shop"))
    assert shown.open == []
    assert shown.text.index(f"{'✗' if reasons else '✓'} {word}") < shown.text.index("Limits")
    assert ("because" in shown.text) == bool(reasons)


def test_figures_of_every_group_that_has_queries():
    old, seen = change_rows(report())
    assert (old.label, old.size) == ("old classes", "80 queries, 20 classes")
    assert (seen.label, seen.size) == ("all classes", "1 query, 1 class")
    assert old.cells == (("90.0", "85.5", "−4.5"), ("60.0", "63.0", "+3.0"))
    (line,) = [line for line in gate_lines(report(), "shop") if line.startswith("old classes")]
    assert "90.0 → 85.5 (−4.5)" in line
    assert not any(line.startswith("new classes") for line in gate_lines(report(), "shop"))


def test_limits_stand_beside_what_was_measured_and_what_it_proves():
    retention, flips, gain = check_rows(report())
    assert (retention.measured, retention.limit, retention.passed) == ("95.0 %", "at least 98.0 %", False)
    assert retention.evidence.startswith("80 probe images are consistent with as much as 97.0 %; 149 without")
    assert (flips.measured, flips.limit, flips.passed) == ("1.2 %", "at most 2.0 %", True)
    assert flips.evidence.startswith("80 probe images are consistent with as little as 0.1 %")
    assert (gain.measured, gain.passed, gain.evidence) == ("not measured", None, "no probe image to judge by")
    few = Check("old_retention", 0.5, math.inf, 0.98, "minimum", True, 1, 149)
    assert "too few for a conclusion" in check_rows(report(checks=(few,)))[0].evidence


def test_the_page_decides_nothing():
    """What passed is what the report says, whatever the numbers are."""
    odd = Check("negative_flips", 0.9, 0.8, 0.02, "maximum", True, 80, 149)
    assert check_rows(report(checks=(odd,)))[0].passed
    assert gate_lines(report(checks=(odd,), reasons=()), "shop")[0].startswith("PASS")


def test_the_next_command_fits_the_verdict():
    passed = next_steps(report(reasons=()), "my shop")
    assert [step.command for step in passed] == ["scrubjay promote 'my shop' g2", "scrubjay backfill 'my shop' --plan"]
    nothing_waits = report(reasons=(), backfill=BackfillCost(0, 1.0, 0.0))
    assert [step.command for step in next_steps(nothing_waits, "shop")] == ["scrubjay promote shop g2"]
    assert [step.command for step in next_steps(report(), "shop")] == ["", "scrubjay promote shop g2 --force"]


def test_failure_of_the_bridges_and_failure_of_the_network_get_different_advice():
    bridges = report(sample=ReembeddedSample(9, Figures(0.8, 0.5), Figures(0.9, 0.6)))
    network = report(sample=ReembeddedSample(9, Figures(0.8, 0.5), Figures(0.7, 0.4)))
    assert "stays nearer to g1" in next_steps(bridges, "shop")[0].text
    assert "forgets less" in next_steps(network, "shop")[0].text
    assert "probe.images" in next_steps(report(groups={}), "shop")[0].text


def test_flips_show_query_then_right_then_wrong(image):
    shown = Page(page(report(flips=(flip(str(image), image.as_uri()),)), "shop"))
    assert [image["alt"] for image in shown.attributes("img")] == ["query: apple", "apple"]  # a file: address works
    assert "no image: pear.jpg" in shown.text
    assert "no class" in shown.text
    labels = [each.get("aria-label") for each in shown.attributes("b")]
    assert labels[-2:] == ["right", "wrong"]


def test_many_flips_are_counted_and_not_all_shown():
    shown = Page(page(report(flips=(flip("gone.png", "gone.png"),) * (SHOWN + 3)), "shop"))
    assert "And 3 more." in shown.text
    assert shown.text.count("now, g1") == SHOWN


def test_bridges_show_only_figures_that_were_measured():
    text = Page(page(report(), "shop")).text
    assert "76.5" in text
    assert "0.912" in text
    assert "class left out" not in text
    assert "bridge, queries to older vectors: ridge" in gate_lines(report(), "shop")


def test_a_report_without_gallery_or_probe_images():
    bare = GateReport("g1", "g0", note="the gallery is empty")
    assert gate_lines(bare, "shop") == [
        "PASS: g1 may answer queries",
        "  the gallery is empty",
        "Next: scrubjay promote shop g1",
    ]
    shown = Page(page(bare, "shop"))
    assert shown.open == []
    assert "Bridges" not in shown.text


def test_page_fetches_nothing_and_escapes_names(image):
    hostile = report(candidate=HOSTILE, reasons=(HOSTILE,), flips=(flip(str(image), HOSTILE, HOSTILE),))
    text = page(hostile, HOSTILE)
    assert "<script" not in text
    shown = Page(text)
    assert shown.open == []
    for _, attributes in shown.tags:
        assert attributes.get("src", "data:").startswith("data:")
        assert "href" not in attributes


def test_page_is_written_whole_with_its_folder(tmp_path):
    path = tmp_path / "new" / "gate.html"
    write_gate_page(path, report(flips=(flip("\udcff.png", "\udcff.png"),)), "shop")
    assert Page(path.read_text(encoding="utf-8")).open == []
    assert [each.name for each in path.parent.iterdir()] == ["gate.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_gate_page(tmp_path / "file" / "gate.html", report(), "shop")


@pytest.mark.parametrize(("seconds", "words"), [(12.2, "12 s"), (119.4, "119 s"), (200, "3 min"), (7300, "2.0 h")])
def test_durations(seconds, words):
    assert gate_page._duration(seconds) == words
