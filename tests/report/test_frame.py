from __future__ import annotations

import json

import pytest
from report_sample import result

from scrubjay.errors import DataError
from scrubjay.report.frame import MATRICES, results_frame


@pytest.fixture
def runs(tmp_path):
    blank = {"recall@1": [[None] * 3] * 3}
    for method, seed in (("l2", 0), ("l2", 1), ("mmd", 0)):
        folder = tmp_path / "runs" / f"{method}-s{seed}"
        folder.mkdir(parents=True)
        made = result(method, seed, score=0.3 + 0.1 * seed) | {"retained": blank, "bridged": blank, "reindex": blank}
        (folder / "result.json").write_text(json.dumps(made))
    return tmp_path


def test_every_figure_of_every_run_is_one_row(runs):
    frame = results_frame(runs)
    assert sorted(set(frame["run"])) == ["l2-s0", "l2-s1", "mmd-s0"]
    seen = frame[(frame["kind"] == "seen") & (frame["figure"] == "map_at_r")]
    table = seen.pivot_table(index="method", columns="session", values="value")
    assert table.loc["l2", 2] == pytest.approx(0.35)  # the mean over two seeds
    assert table.loc["mmd", 2] == pytest.approx(0.3)
    cell = frame[(frame["kind"] == "accuracy") & (frame["run"] == "l2-s1") & (frame["figure"] == "recall@1")]
    assert cell[(cell["session"] == 1) & (cell["other"] == 1)]["value"].item() == pytest.approx(0.5)
    assert not frame.duplicated(["run", "kind", "session", "other", "figure"]).any()
    assert frame["value"].notna().all()


def test_one_file_and_one_folder_are_the_same(runs):
    folder = runs / "runs" / "mmd-s0"
    assert results_frame(folder).equals(results_frame(folder / "result.json"))
    assert set(results_frame(folder)["kind"]) == {"old", "new", "seen", "continual", *MATRICES} - {
        "retained",
        "bridged",
        "reindex",
    }


def test_mistakes_are_told(runs):
    with pytest.raises(DataError, match="no finished run here"):
        results_frame(runs / "nowhere")
    (runs / "result.json").write_text("{}")
    with pytest.raises(DataError, match="not the result of a run"):
        results_frame(runs / "result.json")
