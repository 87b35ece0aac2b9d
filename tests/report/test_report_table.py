from __future__ import annotations

import io
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_sample import group, result
from rich.console import Console
from scipy import stats

from scrubjay.errors import ConfigError
from scrubjay.report.runs import by_method, settings
from scrubjay.report.table import BACKBONE, Estimate, estimate, markdown, percent, rows, summary


def shown(results, width=100):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(summary(results))
    return console.file.getvalue()


def test_rows_hold_the_figures_of_the_last_session():
    backbone, mmd = rows([result(score=0.5)])
    assert (backbone.label, mmd.label) == (BACKBONE, "mmd")
    expected = {
        ("old", "recall@1"): 0.71,
        ("old", "map_at_r"): 0.51,
        ("new", "recall@1"): 0.72,
        ("new", "map_at_r"): 0.52,
        ("seen", "recall@1"): 0.7,
        ("seen", "map_at_r"): 0.5,
        ("cross", "recall@1"): 0.7,  # 0.6 − 0.1 · 2 generations · 0.5 + 0.2
        ("cross", "map_at_r"): 0.5,
        ("own", "recall@1"): 0.8,
        ("own", "map_at_r"): 0.6,
    }
    assert {key: cell.mean for key, cell in mmd.cells.items()} == pytest.approx(expected)
    assert all(cell.half is None for cell in mmd.cells.values())
    assert backbone.cells["old", "map_at_r"] == Estimate(0.2)
    assert backbone.cells["cross", "map_at_r"] == backbone.cells["own", "map_at_r"] == Estimate(None)


def test_bold_is_the_best_without_old_images():
    table = rows([result("finetune", score=0.3), result("mmd", score=0.4), result("joint", score=0.9)])
    by_label = {row.label: row for row in table}
    assert by_label["joint"].keeps_images
    assert by_label["joint"].best == frozenset()
    assert ("seen", "map_at_r") in by_label["mmd"].best
    assert by_label["finetune"].best == frozenset()
    assert ("new", "map_at_r") in by_label["mmd"].best  # 0.42, the backbone has 0.40


def test_the_backbone_competes_and_ties_at_the_shown_precision_are_shared():
    table = {row.label: row for row in rows([result("l2", score=0.05), result("mmd", score=0.05001)])}
    assert ("seen", "map_at_r") in table[BACKBONE].best
    assert ("cross", "map_at_r") in table["l2"].best & table["mmd"].best


def test_one_row_has_nothing_to_be_best_of():
    (row,) = rows([result(reference=None)])
    assert row.best == frozenset()


def test_one_session_has_no_old_classes_and_no_older_gallery():
    (row,) = rows([result(sessions=1, reference=None)])
    for key in (("old", "recall@1"), ("cross", "map_at_r"), ("own", "map_at_r")):
        assert row.cells[key] == Estimate(None)
    assert row.cells["new", "map_at_r"].mean == pytest.approx(0.52)
    assert "–" in shown([result(sessions=1)])


def test_nan_and_null_are_not_measured():
    run = result()
    run["groups"][-1]["seen"]["map_at_r"] = math.nan
    run["groups"][-1]["new"]["recall"]["1"] = None
    run["compatibility"]["map_at_r"][-1][0] = math.nan
    row = rows([run])[1]
    assert (
        row.cells["seen", "map_at_r"]
        == row.cells["new", "recall@1"]
        == row.cells["cross", "map_at_r"]
        == Estimate(None)
    )
    assert "nan" not in shown([run]) + markdown([run])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_interval_is_students(values):
    found = estimate([*values, None, math.nan])
    assert found.mean == pytest.approx(np.mean(values), abs=1e-12)
    scale = stats.sem(values)
    if scale > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), scale)
        assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high), abs=1e-9)
    else:
        assert found.half == pytest.approx(0, abs=1e-6)


def test_seeds_are_averaged_with_their_interval():
    table = rows([result(seed=seed, score=score) for seed, score in enumerate((0.4, 0.5, 0.6))])
    cell = table[1].cells["seen", "map_at_r"]
    assert table[1].seeds == 3
    assert cell.mean == pytest.approx(0.5)
    assert cell.half == pytest.approx(4.302652729911275 * 0.1 / math.sqrt(3))
    assert table[0].cells["seen", "map_at_r"] == Estimate(pytest.approx(0.1), pytest.approx(0.0))


def test_runs_with_other_settings_are_other_rows():
    changed = [result(seed=seed, config={"seed": seed, "method": {"name": "mmd", "beta": 2.0}}) for seed in (0, 1)]
    plain = [result(seed=seed, config={"seed": seed, "method": {"name": "mmd", "beta": 1.0}}) for seed in (0, 1)]
    assert {label: len(runs) for label, runs in by_method([*changed, *plain]).items()} == {
        "mmd (beta=2.0)": 2,
        "mmd (beta=1.0)": 2,
    }


def test_the_order_of_classes_is_a_seed_too():
    runs = [result(config={"seed": 0, "stream": {"seed": seed, "step": 2}}) for seed in (0, 1)]
    assert settings(runs[0]) == settings(runs[1]) == {"stream.step": "2"}
    assert rows(runs)[1].seeds == 2


def test_the_same_run_twice_is_refused():
    with pytest.raises(ConfigError, match="mmd with seed 0 is there twice"):
        rows([result(), result()])


def test_no_results_are_refused():
    with pytest.raises(ConfigError, match="no results"):
        summary([])


@pytest.mark.parametrize("seeds", [1, 3])
def test_terminal_table_fits_a_hundred_columns_uncut(seeds):
    methods = ("frozen", "finetune", "lwf", "l2", "mmd", "joint")
    runs = [result(method, seed, score=0.1 * (i + seed)) for i, method in enumerate(methods) for seed in range(seeds)]
    text = shown(runs)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    assert "joint (all images)" in text
    assert ("One seed." in " ".join(text.split())) == (seeds == 1)
    assert ("over 3 seeds" in " ".join(text.split())) == (seeds == 3)


def test_terminal_table_shows_what_was_lost_and_marks_up_nothing():
    text = shown([result(name="[red]x[/red]")])
    assert "60.0 → 50.0" in text
    assert "[red]x[/red]" in text


def test_markdown():
    lines = markdown([result("mmd", score=0.5), result("joint", score=0.8)]).splitlines()
    assert [line.count("|") for line in lines[:5]] == [10] * 5
    assert lines[3].startswith("| mmd | **71.0** | **51.0** |")
    assert "60.0 → 50.0" in lines[3]
    assert lines[4].startswith("| joint (all images) | 101.0 |")
    assert "One seed." in lines[6]


def test_different_images_are_said():
    other = result("l2", data={"source": "aviary", "hash": "zzz", "classes": ["q"], "broken": []})
    assert "different images" in markdown([result(), other])
    assert "different images" not in markdown([result(), result("l2")])


@pytest.mark.parametrize(
    ("value", "text"), [(0.5417, "54.2"), (-0.1, "−10.0"), (-0.0001, "0.0"), (1, "100.0"), (None, "–")]
)
def test_percent(value, text):
    assert percent(value) == text


def test_missing_groups_are_not_measured():
    run = result(reference=None)
    run["groups"][-1] = {"old": None, "new": group(0.5, 0.5), "seen": None}
    assert rows([run])[0].cells["seen", "map_at_r"] == Estimate(None)


def test_importing_the_table_is_cheap():
    code = "import sys, scrubjay.report.table; print(*{'torch', 'matplotlib', 'scipy', 'timm'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
