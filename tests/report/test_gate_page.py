"""The gate's report on a page and in a terminal."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image
from test_report_html import HOSTILE, Page

from scrubjay.errors import StorageError
from scrubjay.report import gate_page
from scrubjay.report.gate_page import SHOWN, changes, checks, gate_lines, page, steps, write_gate_page


def scores(recall: float, precision: float) -> dict[str, float]:
    return {"recall@1": recall, "map_at_r": precision}


def group(classes: int, queries: int) -> dict[str, Any]:
    return {"classes": classes, "queries": queries, "before": scores(0.9, 0.6), "after": scores(0.855, 0.63)}


def report(**changed: Any) -> dict[str, Any]:
    figures = {**scores(0.8, 0.5), "cosine": 0.9123}
    return {
        "candidate": "g2",
        "serving": "g1",
        "passed": False,
        "reasons": ["old_retention 0.950 < 0.98: old classes are found less well"],
        "thresholds": {"old_retention": 0.98, "negative_flips": 0.02, "new_gain": 0.0},
        "groups": {"old": group(20, 80), "new": None, "seen": group(1, 1)},
        "old_retention": 0.95,
        "negative_flips": 0.0125,
        "new_gain": None,
        "flips": [],
        "bridges": {
            "to_parent": {
                "chosen": "ridge",
                "figures": {"identity": figures, "ridge": {**figures, "sample_map_at_r": 0.7654}},
            }
        },
        "backfill": {"items": 5000, "images_per_second": 410.0, "seconds": 12.2},
        "sample": None,
        "probe": {"images": 80, "kind": "images"},
        "created": "2026-01-02T03:04:05+00:00",
        **changed,
    }


def flip(image: str, uri: str, label: str = "apple") -> dict[str, Any]:
    return {
        "image": image,
        "label": label,
        "before": {"uri": uri, "label": label, "score": 0.81},
        "after": {"uri": "s3://bucket/pear.jpg", "label": None, "score": 0.77},
    }


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "with space.png"
    Image.new("RGB", (300, 200), (80, 40, 200)).save(path)
    return path


@pytest.mark.parametrize(("passed", "word"), [(True, "PASS"), (False, "FAIL")])
def test_the_verdict_comes_first(passed, word):
    found = report(passed=passed, reasons=[] if passed else ["because"])
    assert gate_lines(found)[0].startswith(word)
    shown = Page(page(found))
    assert shown.open == []
    assert shown.text.index(f"{'✓' if passed else '✗'} {word}") < shown.text.index("What is asked for")
    assert ("because" in shown.text) is not passed


def test_figures_of_every_group_that_has_queries():
    old, seen = changes(report())
    assert (old.label, old.size) == ("old classes", "80 queries, 20 classes")
    assert (seen.label, seen.size) == ("all classes", "1 query, 1 class")
    assert old.cells == (("90.0", "85.5", "−4.5"), ("60.0", "63.0", "+3.0"))
    (line,) = [line for line in gate_lines(report()) if line.startswith("old classes")]
    assert "90.0 → 85.5 (−4.5)" in line
    assert not any(line.startswith("new classes") for line in gate_lines(report()))


def test_thresholds_beside_what_was_measured():
    retention, flips, gain = checks(report())
    assert (retention.measured, retention.limit, retention.kept) == ("95.0 %", "at least 98.0 %", False)
    assert (flips.measured, flips.limit, flips.kept) == ("1.2 %", "at most 2.0 %", True)
    assert (gain.measured, gain.kept) == ("not measured", None)
    assert checks(report(new_gain=0.0))[2].kept  # the limit itself is enough
    assert checks(report(negative_flips=0.02))[1].kept


def test_the_next_command_fits_the_verdict():
    passed = steps(report(passed=True, catalogue="my shop"))
    assert [command for _, command in passed] == ["scrubjay promote 'my shop' g2", "scrubjay backfill 'my shop' --plan"]
    nothing_waits = report(passed=True, backfill={"items": 0, "images_per_second": 1.0, "seconds": 0.0})
    assert [command for _, command in steps(nothing_waits)] == ["scrubjay promote FOLDER g2"]
    assert [command for _, command in steps(report())] == ["", "scrubjay promote FOLDER g2 --force"]


def test_failure_of_the_bridges_and_failure_of_the_network_get_different_advice():
    bridges = report(sample={"items": 9, "stored": scores(0.8, 0.5), "reindexed": scores(0.9, 0.6)})
    network = report(sample={"items": 9, "stored": scores(0.8, 0.5), "reindexed": scores(0.7, 0.4)})
    assert "stays nearer to g1" in steps(bridges)[0][0]
    assert "forgets less" in steps(network)[0][0]
    assert "probe.images" in steps(report(groups={}))[0][0]


def test_flips_show_query_then_right_then_wrong(image):
    shown = Page(page(report(flips=[flip(str(image), image.as_uri())])))
    assert [image["alt"] for image in shown.attributes("img")] == ["query: apple", "apple"]  # a file: address works
    assert "no image: pear.jpg" in shown.text
    assert "no class" in shown.text
    labels = [each.get("aria-label") for each in shown.attributes("b")]
    assert labels[-2:] == ["right", "wrong"]


def test_many_flips_are_counted_and_not_all_shown():
    shown = Page(page(report(flips=[flip("gone.png", "gone.png")] * (SHOWN + 3))))
    assert "And 3 more." in shown.text
    assert shown.text.count("now, g1") == SHOWN


def test_bridges_show_only_figures_that_were_measured():
    text = Page(page(report())).text
    assert "76.5" in text
    assert "0.912" in text
    assert "class left out" not in text
    assert "bridge, queries to older vectors: ridge" in gate_lines(report())


def test_a_report_without_gallery_or_probe_images():
    bare = {"candidate": "g1", "serving": "g0", "passed": True, "reasons": [], "note": "the gallery is empty"}
    nothing = {"backfill": None, "sample": None, "bridges": {}, "probe": {"images": 0, "kind": "images"}}
    assert gate_lines({**bare, **nothing}) == [
        "PASS: g1 may answer queries",
        "  the gallery is empty",
        "Next: scrubjay promote FOLDER g1",
    ]
    shown = Page(page({**bare, **nothing}))
    assert shown.open == []
    assert "Bridges" not in shown.text


def test_page_fetches_nothing_and_escapes_names(image):
    names = {"candidate": HOSTILE, "catalogue": HOSTILE, "reasons": [HOSTILE]}
    text = page(report(**names, flips=[flip(str(image), HOSTILE, HOSTILE)]))
    assert "<script" not in text
    shown = Page(text)
    assert shown.open == []
    for _, attributes in shown.tags:
        assert attributes.get("src", "data:").startswith("data:")
        assert "href" not in attributes


def test_page_is_written_whole_with_its_folder(tmp_path):
    path = tmp_path / "new" / "gate.html"
    write_gate_page(path, report(flips=[flip("\udcff.png", "\udcff.png")]))
    assert Page(path.read_text(encoding="utf-8")).open == []
    assert [each.name for each in path.parent.iterdir()] == ["gate.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_gate_page(tmp_path / "file" / "gate.html", report())


@pytest.mark.parametrize(("seconds", "words"), [(12.2, "12 s"), (119.4, "119 s"), (200, "3 min"), (7300, "2.0 h")])
def test_durations(seconds, words):
    assert gate_page._duration(seconds) == words
