"""Comparing methods: what runs, what does not run again, what goes on, and what is said of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from scrubjay.data.sampler import PKSampler
from scrubjay.errors import CatalogueError, ConfigError, ScrubjayError
from scrubjay.experiments import compare as bench
from scrubjay.experiments import run as experiment
from scrubjay.experiments.recipe import Entry, entries, own_entry, read, resolve, seeds_in
from scrubjay.experiments.result import ADDED
from scrubjay.io.locking import locked
from scrubjay.methods import method
from scrubjay.models.checkpoint import load_tensors
from tiny import Call
from waiting import GUARD, until

SCRIPT = Path(sys.executable).with_name("scrubjay")
DIVERGES = "mmd:alpha=1e39"
RECIPE = """
[source]
name = "folder"
root = "{root}"
[stream]
initial = 2
step = 1
[images]
size = 32
resize = 36
[network]
backbone = "test_resnet"
pretrained = false
dim = 8
[training]
epochs = 1
classes_per_batch = 2
images_per_class = 2
device = "cpu"
checkpoint_every = 5
[methods.l2]
weight = 2.0
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bench")
    tiny.tree(root / "photos", classes=3)
    (root / "recipe.toml").write_text(RECIPE.format(root=root / "photos"))
    return root / "recipe.toml"


@pytest.fixture(scope="module")
def compared(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison by processes of their own, one at a time, of one thread each; one of its runs diverges."""
    out = tmp_path_factory.mktemp("compared") / "out"
    command = [SCRIPT, "compare", recipe, "--methods", f"finetune,{DIVERGES},l2", "--out", out]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 1, done
    assert done.stderr.startswith(f"failed: {DIVERGES}, seed 0: session 2, step 0: ")
    assert "is not finite" in done.stderr
    assert done.stderr.count("\n") == 1
    lines = done.stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines[:3]] == ["1 of 3", "2 of 3", "3 of 3"]
    assert lines[0].startswith("1 of 3: finetune, seed 0: ")
    assert " s, seen mAP@R " in lines[0]
    assert lines[1].endswith("failed")
    return out


class Inline:
    """A worker in this process, which ends when it is first looked at."""

    def __init__(self, options: experiment.ExperimentOptions, out: Path, start: Path | None, *_: Any) -> None:
        self.problem: str | None = None
        STARTED.append((out.name, None if start is None else start.name))
        try:
            experiment.run(options, out, start)
        except ScrubjayError as error:
            self.problem = str(error)

    def ended(self) -> bool:
        return True

    def end(self) -> tuple[float, str | None]:
        return 0.0, self.problem

    def interrupt(self) -> None:
        pass


STARTED: list[tuple[str, str | None]] = []


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Folders of the runs that were started in this process, each with the one whose initial session it took."""
    STARTED.clear()
    monkeypatch.setattr(bench, "Worker", Inline)
    return STARTED


def result(out: Path, run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "runs" / run / "result.json").read_text(encoding="utf-8"))
    return {key: value for key, value in found.items() if key != "phases"}


def stamps(out: Path) -> dict[Path, tuple[int, int]]:
    files = [path for path in (out / "runs").rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


def board(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "leaderboard.json").read_text(encoding="utf-8"))
    return found


def test_the_leaderboard_names_those_that_finished_and_those_that_failed(compared: Path) -> None:
    found = board(compared)
    assert {row["label"] for row in found["rows"]} == {"finetune", "l2", "backbone, no training"}
    assert [(each["label"], each["seed"]) for each in found["failed"]] == [(DIVERGES, 0)]
    assert "is not finite" in (compared / "leaderboard.md").read_text(encoding="utf-8")
    assert "is not finite" in (compared / "leaderboard.html").read_text(encoding="utf-8")


def test_the_second_time_nothing_runs(compared: Path, recipe: Path, call: Call) -> None:
    before = stamps(compared)
    code, out, err = call("compare", str(recipe), "--methods", "finetune,l2", "--out", str(compared))
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "2 of 2 runs are finished already."
    assert stamps(compared) == before
    assert not board(compared)["failed"]


@pytest.mark.usefixtures("one_thread")
def test_two_at_a_time_give_the_same_to_the_bit(compared: Path, recipe: Path, call: Call, tmp_path: Path) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one core")
    code, _, err = call("compare", str(recipe), "--methods", "finetune,l2", "--out", "two", "--jobs", "2")
    assert (code, err) == (0, "")
    for run in ("finetune-s0", "l2-s0"):
        assert result(tmp_path / "two", run) == result(compared, run)
        for generation in ("g0", "g1"):
            file = Path("runs", run, "generations", generation, "network.safetensors")
            assert (tmp_path / "two" / file).read_bytes() == (compared / file).read_bytes()


def outdate(folder: Path) -> dict[str, Any]:
    """Make the result of a run one of an older version; returns the whole one."""
    path = folder / "result.json"
    whole: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({key: value for key, value in whole.items() if key not in ADDED}), encoding="utf-8")
    for bridge in (folder / "measured").glob("*.bridge.*"):
        bridge.unlink()
    return whole


def test_results_of_an_older_version_are_evaluated_again_without_learning(
    compared: Path, recipe: Path, call: Call, tmp_path: Path, started: list[tuple[str, str | None]]
) -> None:
    shutil.copytree(compared, tmp_path / "out")
    whole = outdate(tmp_path / "out" / "runs" / "l2-s0")
    weights = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").glob("*/generations/*/*")}
    code, out, err = call("compare", str(recipe), "--methods", "finetune,l2", "--out", "out")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "1 of 2 runs are finished already."
    assert started == [("l2-s0", None)]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").glob("*/generations/*/*")} == weights
    assert result(tmp_path / "out", "l2-s0") == {key: value for key, value in whole.items() if key != "phases"}
    assert [row["label"] for row in board(tmp_path / "out")["rows"]] == [row["label"] for row in board_rows(compared)]


def board_rows(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = board(out)["rows"]
    return rows


def test_without_the_images_an_older_result_shows_what_it_has(
    compared: Path, recipe: Path, call: Call, tmp_path: Path, started: list[tuple[str, str | None]]
) -> None:
    shutil.copytree(compared, tmp_path / "out")
    shutil.copytree(recipe.parent / "photos", tmp_path / "photos")
    (tmp_path / "recipe.toml").write_text(RECIPE.format(root=tmp_path / "photos"))
    for run in ("finetune-s0", "l2-s0"):
        outdate(tmp_path / "out" / "runs" / run)
        config = tmp_path / "out" / "runs" / run / "config.json"
        config.write_text(config.read_text().replace(str(recipe.parent), str(tmp_path)))
    shutil.rmtree(tmp_path / "photos")
    code, out, err = call("compare", "recipe.toml", "--methods", "finetune,l2", "--out", "out")
    assert (code, err) == (0, "")
    assert out.count("not evaluated again (") == 2
    rows = {row["label"]: row["figures"] for row in board_rows(tmp_path / "out")}
    assert rows["l2"]["am"]["n"] == rows["l2"]["retained"]["n"] == 1
    assert rows["l2"]["bridged.map_at_r"]["mean"] is rows["l2"]["flips.step"]["mean"] is None


def test_every_seed_has_its_own_order_of_shuffled_classes(recipe: Path, tmp_path: Path) -> None:
    def seeds(*settings: str) -> list[tuple[int, int]]:
        runs = bench.plan(read(recipe, settings), [Entry("l2"), Entry("mmd")], [0, 4], tmp_path / "out", "recipe")
        return [(run.seed, run.options.stream.seed) for run in runs]

    assert seeds("stream.order=shuffle") == [(0, 0), (4, 4)] * 2
    assert seeds("stream.order=shuffle", "stream.seed=2") == [(0, 2), (4, 2)] * 2
    assert seeds() == [(0, 0), (4, 0)] * 2


@pytest.mark.parametrize(
    ("name", "shuffled"),
    [
        *((name, True) for name in ("aviary", "grocery", "grocery_one_step", "grocery_whole")),
        *((name, False) for name in ("cub200_paper", "stanford_dogs_paper")),
    ],
)
def test_recipes_shuffle_classes_that_have_no_published_order(name: str, shuffled: bool) -> None:
    values = read(Path(__file__).parents[2] / "recipes" / f"{name}.toml")
    assert (values["stream"].get("order") == "shuffle") == shuffled


@pytest.mark.parametrize(
    ("name", "images", "epochs", "batches"),
    [
        ("cub200_paper", 30, "epochs", 1500 * 100 / 16),
        ("cub200_paper", 30, "increment_epochs", 800 * 100 / 16),
        ("stanford_dogs_paper", 100, "epochs", 1500 * 60 / 16),
        ("stanford_dogs_paper", 100, "increment_epochs", 800 * 60 / 16),
    ],
)
def test_recipes_of_the_paper_train_as_many_batches(name: str, images: int, epochs: str, batches: float) -> None:
    values = read(Path(__file__).parents[2] / "recipes" / f"{name}.toml")
    training, classes = values["training"], values["stream"]["initial"]
    labels = [label for label in range(classes) for _ in range(images)]
    sampler = PKSampler(labels, training["classes_per_batch"], training["images_per_class"], seed=0)
    assert training[epochs] * len(sampler.epoch(0)) == pytest.approx(batches, rel=0.005)
    assert training["increment_lr"] == 1.0


@pytest.mark.usefixtures("one_thread")
def test_what_was_lost_is_made_again(
    compared: Path, recipe: Path, call: Call, tmp_path: Path, started: list[tuple[str, str | None]]
) -> None:
    shutil.copytree(compared, tmp_path / "out")
    lost = tmp_path / "out" / "runs" / "l2-s0"
    shutil.rmtree(lost / "generations" / "g1")
    for path in (lost / "result.json", *(lost / "measured").glob("g1.*")):
        path.unlink()
    kept = stamps(tmp_path / "out")
    assert call("compare", str(recipe), "--methods", "finetune,l2", "--out", "out")[0] == 0
    assert started == [("l2-s0", None)]
    assert result(tmp_path / "out", "l2-s0") == result(compared, "l2-s0")
    again = stamps(tmp_path / "out")
    assert {path for path in kept if kept[path] != again[path]} <= {lost / "lock"}


def test_what_was_killed_goes_on(recipe: Path, tmp_path: Path) -> None:
    command = [SCRIPT, "compare", recipe, "--methods", "finetune", "--out", tmp_path, "--set", "training.epochs=3000"]
    run = tmp_path / "runs" / "finetune-s0"
    checkpoint = run / "session0.safetensors"

    def step() -> int:
        return int(load_tensors(checkpoint, "")[1]["step"]) if checkpoint.exists() else 0

    def stopped(stop: signal.Signals, condition: Callable[[], bool]) -> tuple[int, str, int]:
        """Exit code, errors and last step of a comparison that gets a signal when a condition holds."""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as master:
            until(condition, master)
            master.send_signal(stop)
            _, err = master.communicate(timeout=GUARD)
        until(lambda: free(run))  # the worker of a master that is gone saves and ends too
        assert not (run / "result.json").exists()
        return master.returncode, err, step()

    code, err, first = stopped(signal.SIGKILL, lambda: step() >= 50)
    assert code == -signal.SIGKILL
    assert "run the same command again" not in err
    written = checkpoint.stat().st_mtime_ns
    code, err, second = stopped(signal.SIGINT, lambda: checkpoint.stat().st_mtime_ns != written)
    assert code == 130
    assert "run the same command again" in err
    assert 50 <= first < second, "it began again"


def free(run: Path) -> bool:
    try:
        with locked(run):
            return True
    except CatalogueError:
        return False


def test_an_initial_session_is_learned_once_a_seed(
    recipe: Path, call: Call, tmp_path: Path, started: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(method("lwf"), "own_start", True)
    arguments = ("compare", str(recipe), "--methods", "lwf,finetune,frozen", "--seeds", "0,3", "--out", "out")
    assert call(*arguments)[0] == 0
    assert sorted(started) == [
        *(("finetune-s0", None), ("finetune-s3", None)),
        *(("frozen-s0", "finetune-s0"), ("frozen-s3", "finetune-s3")),
        *(("lwf-s0", None), ("lwf-s3", None)),
    ]
    assert [row["seeds"] for row in board(tmp_path / "out")["rows"]] == [[0, 3]] * 4


def test_where_the_first_fails_the_next_goes_ahead(
    recipe: Path, call: Call, tmp_path: Path, started: list[tuple[str, str | None]]
) -> None:
    methods = "finetune:metric_weight=1e39,frozen,l2"
    code, _, err = call("compare", str(recipe), "--methods", methods, "--out", "out")
    assert (code, err.count("\n")) == (1, 1)
    assert started == [("finetune_metric_weight=1e39-s0", None), ("frozen-s0", None), ("l2-s0", "frozen-s0")]
    config = json.loads((tmp_path / "out/runs/l2-s0/config.json").read_text(encoding="utf-8"))
    assert config["method"]["weight"] == 2.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "finetune,nmd"), "unknown method 'nmd'"),
        (("--methods", "mmd:alhpa=0"), "Did you mean 'alpha'"),
        (("--methods", "mmd:alpha"), "write it as NAME or NAME:KEY=VALUE"),
        (("--methods", "mmd,,l2"), "with commas between them"),
        (("--methods", "mmd,mmd"), "would be one run"),
        (("--methods", "mmd", "--seeds", "0,x"), "--seeds '0,x'"),
        (("--methods", "mmd", "--seeds", "1,1"), "--seeds '1,1'"),
        (("--methods", "mmd", "--jobs", "999"), "--jobs 999: this machine has"),
        (("--methods", "mmd", "--jobs", "0"), "--jobs 0"),
        (("--methods", "mmd", "--set", "method.alpha=0"), "options of a method as --methods"),
        (("--methods", "mmd", "--set", "seed=3"), "give --seeds"),
        (("--methods", "mmd", "--set", "stream.initial=99"), "99"),
        (("--methods", "mmd", "--set", "methods.nmd.alpha=1"), "[methods.nmd]: there is no such method"),
        (("--methods", "mmd", "--set", "methods.mmd=1"), "write a table of its options"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(
    arguments: tuple[str, ...], message: str, recipe: Path, call: Call, tmp_path: Path
) -> None:
    code, out, err = call("compare", str(recipe), *arguments, "--out", "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_options_is_refused(compared: Path, recipe: Path, call: Call) -> None:
    before = stamps(compared)
    other = ("--set", "training.epochs=2")
    code, out, err = call("compare", str(recipe), "--methods", "finetune", "--out", str(compared), *other)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "holds a run with another training.epochs (1, now 2)" in err
    assert stamps(compared) == before


def test_threads_are_shared_and_never_more_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert [bench.threads_each(jobs) for jobs in (1, 2, 3, 8)] == [8, 4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [bench.threads_each(jobs) for jobs in (1, 2, 3, 8)] == [3, 3, 2, 1]
    with pytest.raises(ConfigError, match="give 1 to 8"):
        bench.threads_each(9)


def test_entries_may_hold_lists_and_colons() -> None:
    found = entries("a, b:metric=pml:ArcFaceLoss:weights=[1, 2],c:table={x = 1, y = 2}")
    assert found == [
        Entry("a"),
        Entry("b", ("metric=pml:ArcFaceLoss", "weights=[1, 2]")),
        Entry("c", ("table={x = 1, y = 2}",)),
    ]
    assert seeds_in("3, 1") == [3, 1]


def test_the_options_of_a_method_come_in_order() -> None:
    values = {"seed": 1, "method": {"name": "mmd", "a": 1, "b": 1, "c": 1}, "methods": {"mmd": {"b": 2, "c": 2}}}
    assert resolve(values, Entry("mmd", ("c=3", "d.e=3"))) == {
        "seed": 1,
        "method": {"name": "mmd", "a": 1, "b": 2, "c": 3, "d": {"e": 3}},
    }
    assert resolve(values, Entry("l2"))["method"] == {"name": "l2"}
    assert values["methods"] == {"mmd": {"b": 2, "c": 2}}


def test_a_single_run_takes_its_methods_table_and_then_its_settings() -> None:
    values = {"network": {"frozen": "blocks.5"}, "methods": {"slda": {"prior": 2, "views": 2}}}
    expected = {"name": "slda", "prior": 0, "views": 2}
    assert resolve(values, own_entry(values, ["method.prior=0"]))["method"] == expected
    assert resolve({**values, "method": {}}, own_entry({"method": {}}))["method"] == {}
