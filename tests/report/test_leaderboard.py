"""Figures of the leaderboard against plain loops, and what is made of them."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_sample import group, result
from scipy import stats

from scrubjay.report import leaderboard_page, leaderboard_text
from scrubjay.report.figures import COLUMNS, TARGETS
from scrubjay.report.leaderboard import TESTED, Failure, board, to_json
from scrubjay.report.paired import corrected, holm, paired
from scrubjay.report.table import BACKBONE

DOCUMENTED = json.loads((Path(__file__).parents[2] / "docs" / "leaderboard.schema.json").read_text(encoding="utf-8"))
T = 3
SEEDS = (0, 1, 2)
SCORES = {"finetune": 0.3, "lwf": 0.45, "mmd": 0.5, "simplex": 0.55, "joint": 0.7}


def run(name: str, seed: int) -> dict[str, Any]:
    """A run in which every matrix has other figures."""
    score = SCORES[name] + 0.02 * seed * (1 if name == "mmd" else 1.3)
    c = [[score + 0.1 * k - 0.02 * t if k <= t else None for k in range(T)] for t in range(T)]
    r = [[score + 0.2 + 0.01 * t if k <= t else None for k in range(T)] for t in range(T)]
    a = [[score + 0.05 * j - 0.03 * (t - j) for j in range(T)] for t in range(T)]
    made = result(
        name,
        seed,
        score=score,
        compatibility={"recall@1": c, "map_at_r": c},
        reindex={"recall@1": r, "map_at_r": r},
        accuracy={"recall@1": a, "map_at_r": a},
    )
    for phase in made["phases"]:
        phase["seconds"] = 1.0 + phase["session"] + seed + 10 * score
        phase["peak_mb"] = 100 * phase["session"] + seed + (7 if phase["phase"] == "embed" else 0)
    return made


@pytest.fixture(scope="module")
def results() -> dict[str, list[dict[str, Any]]]:
    return {name: [run(name, seed) for seed in SEEDS] for name in SCORES}


def by_loops(name: str, seed: int) -> dict[str, float]:
    mine, joint, finetune = run(name, seed), run("joint", seed), run("finetune", seed)
    a, c, r = (mine[key]["map_at_r"] for key in ("accuracy", "compatibility", "reindex"))
    now = then = 0.0
    for j in range(T - 1):
        now += a[T - 1][j] / (T - 1)
        then += a[j][j] / (T - 1)
    seen, best, plain = (each["groups"][-1]["seen"]["map_at_r"] for each in (mine, joint, finetune))
    learned = [p for p in mine["phases"] if p["phase"] == "learn" and p["session"] > 0]
    seconds = sum(p["seconds"] for p in learned) / len(learned)
    of_joint = [p["seconds"] for p in joint["phases"] if p["phase"] == "learn" and p["session"] > 0]
    found = {
        "old_kept": now / then,
        "seen_of_joint": seen / best,
        "old_gallery_kept": c[T - 1][0] / r[T - 1][0],
        "old_gallery_absolute": c[T - 1][0] / c[0][0],
        "gap": (seen - plain) / (best - plain),
        "seen.map_at_r": seen,
        "seen.recall@1": mine["groups"][-1]["seen"]["recall"]["1"],
        "old.map_at_r": mine["groups"][-1]["old"]["map_at_r"],
        "new.recall@1": mine["groups"][-1]["new"]["recall"]["1"],
        "cross.map_at_r": c[T - 1][0],
        "own.map_at_r": c[0][0],
        "forgetting": 0.1,
        "seconds": seconds,
        "seconds_of_joint": seconds / statistics.fmean(of_joint),
        "peak_mb": max(p["peak_mb"] for p in learned),
    }
    missed = 0.0
    for key, target in TARGETS.items():
        value = min(found[key], found["old_gallery_absolute"]) if key == "old_gallery_kept" else found[key]
        if value < target:
            missed += (target - value) ** 2
    return {**found, "corner": math.sqrt(missed)}


def test_every_figure_is_what_loops_give(results: dict[str, list[dict[str, Any]]]) -> None:
    rows = {row.label: row for row in board(results).rows}
    assert list(rows) == sorted(rows, key=lambda label: rows[label].cell("corner").mean)
    for name in SCORES:
        for seed in SEEDS:
            for key, value in by_loops(name, seed).items():
                assert rows[name].values[seed][key] == pytest.approx(value), (name, seed, key)
        values = [by_loops(name, seed)["corner"] for seed in SEEDS]
        cell = rows[name].cell("corner")
        assert cell.mean == pytest.approx(statistics.fmean(values))
        assert cell.half == pytest.approx(stats.t.ppf(0.975, 2) * statistics.stdev(values) / math.sqrt(3))
    assert rows["mmd"].cell("unseen.map_at_r").mean is None


def test_the_backbone_keeps_what_it_has(results: dict[str, list[dict[str, Any]]]) -> None:
    (row,) = (row for row in board(results).rows if row.label == BACKBONE)
    figures = row.values[1]
    assert (figures["old_kept"], figures["old_gallery_kept"], figures["forgetting"]) == (1.0, 1.0, 0.0)
    assert figures["old_gallery_absolute"] == 1.0
    assert figures["seen.map_at_r"] == 0.1
    assert figures["seen_of_joint"] == pytest.approx(0.1 / 0.726)
    assert figures["corner"] == pytest.approx(0.98 - 0.1 / 0.726)
    assert figures["cross.map_at_r"] is None


def test_every_competitor_is_tested_against_the_best_baseline(results: dict[str, list[dict[str, Any]]]) -> None:
    made = board(results)
    rows = {row.label: row for row in made.rows}
    known = {name: statistics.fmean(by_loops(name, seed)["corner"] for seed in SEEDS) for name in SCORES}
    assert made.chosen_by == "corner"
    assert made.baseline == min(("finetune", "lwf", "mmd"), key=known.__getitem__) == "mmd"
    assert rows["joint"].tests is None
    assert rows["mmd"].tests is None
    assert rows["joint"].rank is None
    assert sorted(row.rank for row in made.rows if row.rank) == [1, 2, 3, 4, 5]
    for key in TESTED:
        ps = {}
        for name in ("finetune", "lwf", "simplex"):
            pairs = [(by_loops(name, seed)[key], by_loops("mmd", seed)[key]) for seed in SEEDS]
            ps[name] = stats.ttest_rel(*zip(*pairs, strict=True)).pvalue
            assert rows[name].tests[key].p == pytest.approx(ps[name])
            assert rows[name].tests[key].holm >= rows[name].tests[key].p
    assert rows[BACKBONE].tests["cross.map_at_r"].difference is None


def test_one_seed_has_no_p() -> None:
    made = board({name: [run(name, 0)] for name in SCORES})
    for row in made.rows:
        for test in (row.tests or {}).values():
            assert (test.p, test.holm) == (None, None)
    text = leaderboard_text.markdown(made)
    assert "One seed." in text
    assert "one seed" in text.partition("Against")[2]


def test_without_references_and_reindexing_there_is_still_an_order() -> None:
    made = board({name: [{**run(name, 0), "reindex": None}] for name in ("lwf", "mmd")})
    assert [row.rank for row in made.rows] == [None] * 3
    assert [row.label for row in made.rows] == ["mmd", "lwf", BACKBONE]
    assert (made.baseline, made.chosen_by) == ("mmd", "seen.map_at_r")
    assert made.goal[0].mean is made.goal[1].mean is None
    assert "seen mAP@R, as no baseline's corner is known" in leaderboard_text.markdown(made)
    assert "The corner:" not in leaderboard_page.page(made)
    assert "of which there is no run" in leaderboard_text.caption(made)


def test_one_session_has_nothing_old() -> None:
    made = board({"mmd": [result(sessions=1)]})
    assert {row.cell(key).mean for row in made.rows for key in TARGETS} == {None}
    assert "Learning against compatibility" not in leaderboard_page.page(made)


def test_what_is_unknown_is_unknown_and_no_zero() -> None:
    odd = run("lwf", 0)
    odd["accuracy"] = {"map_at_r": [[None, None], [0.5, 0.5]]}
    odd["reindex"]["map_at_r"][-1][0] = 0.0
    odd["phases"] = []
    (row,) = (row for row in board({"lwf": [odd]}).rows if row.label == "lwf")
    for key in ("old_kept", "old_gallery_kept", "seconds", "peak_mb", "gap", "seen_of_joint", "corner"):
        assert row.values[0][key] is None


def test_seeds_that_only_some_have(results: dict[str, list[dict[str, Any]]]) -> None:
    made = board({**results, "lwf": results["lwf"][:1], "joint": results["joint"][1:]})
    rows = {row.label: row for row in made.rows}
    assert rows["lwf"].cell("corner").mean is None  # no joint with its seed
    assert rows["lwf"].tests["seen.map_at_r"].seeds == 1
    assert len(rows["mmd"].known("corner")) == 2
    assert "over 1 or 2 or 3 seeds" in leaderboard_text.caption(made)


def test_forgetting_does_not_bring_an_old_gallery_nearer() -> None:
    """A method whose own re-indexed gallery got worse too: relative to that it keeps 117 %, of g0's gallery 71 %."""
    c = [[0.601, None], [0.426, 0.5]]
    r = [[0.601, None], [0.364, 0.5]]
    forgetful = run("lwf", 0) | {
        "compatibility": {"map_at_r": c, "recall@1": c},
        "reindex": {"map_at_r": r, "recall@1": r},
    }
    (row,) = (row for row in board({"lwf": [forgetful], "joint": [run("joint", 0)]}).rows if row.label == "lwf")
    values = row.values[0]
    assert values["old_gallery_kept"] == pytest.approx(1.17, abs=0.01)
    assert values["old_gallery_absolute"] == pytest.approx(0.426 / 0.601)
    missing = [max(0.0, 1 - values["old_kept"]), max(0.0, 0.98 - values["seen_of_joint"]), 0.98 - 0.426 / 0.601]
    assert values["corner"] == pytest.approx(math.hypot(*missing))


def test_the_best_row_with_all_images_is_the_upper_reference(results: dict[str, list[dict[str, Any]]]) -> None:
    better = [run("joint", seed) for seed in SEEDS]
    for each in better:
        each["groups"][-1]["seen"] = group(0.9, 0.95)
    made = board({**results, "joint:average=0.5": better})
    rows = {row.label: row for row in made.rows}
    assert made.upper_reference == "joint:average=0.5"
    assert [label for label, row in rows.items() if row.is_upper_reference] == ["joint:average=0.5"]
    for seed in SEEDS:
        seen = by_loops("mmd", seed)["seen.map_at_r"]
        assert rows["mmd"].values[seed]["seen_of_joint"] == pytest.approx(seen / 0.9)
    assert rows["joint"].values[0]["seen_of_joint"] < 1
    text = leaderboard_text.markdown(made)
    assert "joint:average=0.5 (all images, upper reference)" in text
    assert "joint (all images) |" in text
    assert "relative to the upper reference, joint:average=0.5," in text
    assert board(results).upper_reference == "joint"
    assert board({"mmd": results["mmd"]}).upper_reference is None


def test_figures_across_generations_come_from_the_result() -> None:
    one = run("mmd", 0)
    c = one["compatibility"]["map_at_r"]
    matrix = [[None] * T for _ in range(T)]
    steps = [[None, None, None], [0.1, None, None], [0.9, 0.3, None]]
    one |= {
        "bridged": {
            metric: [[0.4, None, None], [0.5, 0.5, None], [0.45, 0.6, 0.7]] for metric in ("recall@1", "map_at_r")
        },
        "retained": {"map_at_r": [[1.0, None, None], [0.9, 1.0, None], [0.5, 0.7, 1.0]]},
        "backward_compatibility": {
            "plain": {"map_at_r": {"ac": 0.25, "am": 0.3, "bc": -0.1, "bct": matrix}},
            "bridged": {"map_at_r": {"ac": 0.75, "am": 0.4, "bc": 0.1, "bct": matrix}},
        },
        "negative_flips": {"reindexed": steps, "old_gallery": steps, "bridged": [[None] * T] * T},
    }
    (row,) = (row for row in board({"mmd": [one]}).rows if row.label == "mmd")
    values = row.values[0]
    assert values["bridged.map_at_r"] == 0.45
    assert values["retained"] == pytest.approx(0.6)
    assert [values[key] for key in ("ac", "am", "bc")] == [0.25, 0.3, -0.1]
    assert [values[f"bridged.{key}"] for key in ("ac", "am", "bc")] == [0.75, 0.4, 0.1]
    assert values["flips.step"] == pytest.approx(0.2)
    assert values["flips.old_gallery"] == 0.9
    assert values["flips.bridged"] is None
    assert values["cross.map_at_r"] == c[-1][0]
    made = board({"mmd": [one], "lwf": [run("lwf", 0)]})
    text = leaderboard_text.markdown(made)
    assert "## Across generations" in text
    assert "criterion of backward-compatible training" in leaderboard_page.page(made)
    assert "## Across generations" not in leaderboard_text.markdown(board({"lwf": [run("lwf", 0)]}))


def test_the_json_is_as_documented(results: dict[str, list[dict[str, Any]]]) -> None:
    jsonschema.validate(to_json(board(results, [Failure("ewc", 1, "why")])), DOCUMENTED)
    jsonschema.validate(to_json(board({}, [Failure("ewc", 1, "why")])), DOCUMENTED)
    figures = DOCUMENTED["properties"]["rows"]["items"]["properties"]["figures"]
    assert figures["required"] == list(figures["properties"]) == list(COLUMNS)


def test_the_files_are_written(results: dict[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    made = board({**results, "mmd:alpha=0|<b>": results["mmd"]}, [Failure("ewc", 1, "<i>why</i>")])
    leaderboard_page.write_board(tmp_path / "new", made)
    assert json.loads((tmp_path / "new" / "leaderboard.json").read_text(encoding="utf-8")) == to_json(made)
    page = (tmp_path / "new" / "leaderboard.html").read_text(encoding="utf-8")
    assert "mmd:<wbr>alpha=0|&lt;b&gt;" in page
    assert "<i>" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    lines = (tmp_path / "new" / "leaderboard.md").read_text(encoding="utf-8").splitlines()
    assert all("joint (all images, upper reference)" in line for line in lines if line.startswith("| – |"))
    assert r"mmd:alpha=0\|<b>" in "\n".join(lines)


def test_the_best_are_marked_and_joint_never(results: dict[str, list[dict[str, Any]]]) -> None:
    rows = {row.label: row for row in board(results).rows}
    assert rows["joint"].best == frozenset()
    assert "old_kept" in rows[BACKBONE].best
    assert "seen.map_at_r" in rows["simplex"].best
    assert not any("peak_mb" in row.best for row in rows.values()), "all have the same"


def test_twenty_five_methods_fit_the_plot() -> None:
    many = {f"m{i}": [{**run("mmd", 0), "method": f"m{i}"}] for i in range(24)}
    for i, (each,) in enumerate(many.values()):
        each["groups"][-1]["seen"] = group(0.4 + 0.01 * i, 0.5)
        each["config"]["method"]["name"] = f"m{i}"
    page = leaderboard_page.page(board({**many, "joint": [run("joint", 0)]}))
    assert "its 95 % intervals are in the table" in page
    assert "Learning against compatibility" in page


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6))
def test_the_paired_test_is_scipys(pairs: list[tuple[float, float]]) -> None:
    one, other = ({seed: pair[side] for seed, pair in enumerate(pairs)} for side in (0, 1))
    differences = [a - b for a, b in pairs]
    if statistics.stdev(differences) < 1e-6:
        return
    assert paired(one, other).p == pytest.approx(stats.ttest_rel(*zip(*pairs, strict=True)).pvalue, abs=1e-9)


def test_equal_differences_are_certain() -> None:
    assert paired({0: 1.0, 1: 1.0}, {0: 0.5, 1: 0.5}).p == 0.0
    assert paired({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}).p == 1.0
    assert paired({0: 1.0}, {1: 1.0}).difference is None


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_by_its_definition(values: list[float]) -> None:
    ordered = sorted(values)
    size = len(values)
    for value, found in zip(values, holm(values), strict=True):
        rank = ordered.index(value)
        wanted = max((size - k) * ordered[k] for k in range(rank + 1))
        assert found == pytest.approx(min(1.0, wanted))


def test_the_correction_counts_only_what_was_tested() -> None:
    found = corrected({"a": paired({0: 1.0, 1: 1.5}, {0: 0.5, 1: 0.5}), "b": paired({0: 1.0}, {0: 0.0})})
    assert found["a"].holm == found["a"].p
    assert found["b"].holm is None
