"""Weights chosen by the new images: what is held out, what is thinned out, and how the choice is judged."""

from __future__ import annotations

import csv
import itertools
import json
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from scrubjay.config import read_toml
from scrubjay.errors import ConfigError, DataError, UserError
from scrubjay.evaluation.tradeoff import agreement, place, spearman
from scrubjay.experiments import run as experiment
from scrubjay.experiments import trial, tuning
from scrubjay.experiments.recipe import Entry, resolve
from scrubjay.experiments.run import ExperimentOptions
from scrubjay.experiments.search_space import candidates, rungs, weights
from scrubjay.experiments.trial import hold_out
from scrubjay.methods import method
from scrubjay.models.embedding import Encoder
from scrubjay.report.tuning_summary import lines
from scrubjay.types import Sample
from tiny import TINY

OLD, NEW, TRAIN = 2, 2, 8
GRID = ["weight=1,5,25"]


def table(root: Path) -> Path:
    """A table of images, which stays when its images go."""
    tiny.tree(root, OLD + NEW, train=TRAIN, test=2)
    with (root / "all.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for path in sorted(root.glob("*/*/*.png")):
            rows.writerow([path.relative_to(root), path.parent.name, path.parent.parent.name])
    return root / "all.csv"


def options(path: Path, name: str = "l2", **changes: Any) -> ExperimentOptions:
    training = {"epochs": 1, "increment_epochs": 2, "classes_per_batch": 2, "images_per_class": 2, "device": "cpu"}
    return ExperimentOptions.parse(
        {
            "name": "tiny",
            "source": {"name": "table", "path": str(path)},
            "stream": {"initial": OLD, "step": NEW},
            "images": {"size": 32, "resize": 36},
            "network": {"backbone": "test_resnet", "pretrained": False, "dim": 8},
            "method": {"name": name},
            "training": training,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def tuned(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned")
    tuning.tune(options(photos), out, peek=True)
    return out


def read(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "tune.json").read_text(encoding="utf-8"))
    return found


def labels(rows: Iterable[dict[str, Any]]) -> list[str]:
    return [row["label"] for row in rows]


@pytest.mark.parametrize("images", [2, 3, 4, 8, 13])
def test_a_quarter_of_each_class_is_held_out_and_nothing_is_in_both(images: int) -> None:
    samples = [Sample(Path(f"{label}/{index}"), label) for label in (5, 6, 7) for index in range(images)]
    kept, held = hold_out(samples, seed=3)
    assert sorted(map(str, (sample.path for sample in (*kept, *held)))) == sorted(str(each.path) for each in samples)
    for label in (5, 6, 7):
        assert sum(sample.label == label for sample in held) == max(1, round(images / 4))
    assert hold_out(samples, seed=3) == (kept, held)
    if images >= 8:
        assert hold_out(samples, seed=4) != (kept, held)


def test_a_class_of_one_image_is_learned_and_not_judged_by() -> None:
    kept, held = hold_out([Sample(Path("a"), 0), Sample(Path("b"), 1), Sample(Path("c"), 1)], seed=0)
    assert [sample.label for sample in kept] == [0, 1]
    assert [sample.label for sample in held] == [1]
    with pytest.raises(DataError, match="two training images"):
        hold_out([Sample(Path("a"), 0), Sample(Path("b"), 1)], seed=0)


def test_what_is_learned_and_what_is_judged_by_are_of_new_classes_and_disjoint(
    photos: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: set[Path] = set()
    embedded: set[Path] = set()
    learn, embed = trial.learn, Encoder.embed

    def watched_learn(learner: Any, session: Any, images: Any, *rest: Any) -> Any:
        assert {sample.path for sample in session.train} == {sample.path for sample in images.samples}
        learned.update(sample.path for sample in images.samples)
        return learn(learner, session, images, *rest)

    def watched_embed(encoder: Encoder, samples: Any, *rest: Any) -> Any:
        embedded.update(sample.path for sample in samples)
        return embed(encoder, samples, *rest)

    monkeypatch.setattr(trial, "learn", watched_learn)
    monkeypatch.setattr(Encoder, "embed", watched_embed)
    found = tuning.tune(options(photos), tmp_path / "out", GRID, start=tuned / "start")
    new = {path for path in photos.parent.glob("train/*/*.png") if path.parent.name in ("class2", "class3")}
    assert embedded == new
    assert len(learned) == NEW * TRAIN * 3 // 4 == found["images"]["learned"]
    assert learned < new
    assert found["images"]["held_out"] == len(new - learned)


def test_old_and_test_images_may_be_gone(tmp_path: Path) -> None:
    path = table(tmp_path / "photos")
    experiment.run(options(path, stream={"initial": OLD, "step": NEW, "sessions": 0}), tmp_path / "run")
    for image in path.parent.glob("*/*/*.png"):
        if image.parent.parent.name == "test" or image.parent.name in ("class0", "class1"):
            image.unlink()
    found = tuning.tune(options(path), tmp_path / "out", GRID, start=tmp_path / "run")
    assert found["chosen"].keys() == {"weight"}
    assert found["peek"] is None
    assert not (tmp_path / "out" / "start").exists()


def test_each_rung_keeps_the_better_half_and_trains_it_twice_as_long(tuned: Path) -> None:
    found = read(tuned)
    counts = [(len(rung["candidates"]), rung["epochs"]) for rung in found["rungs"]]
    assert counts == rungs(5, 2) == [(5, 1), (3, 2)]
    for rung in found["rungs"]:
        scores = [row["score"] for row in rung["candidates"]]
        assert scores == sorted(scores, reverse=True)
        assert scores == [tuning.score(row, rung["plain"]) for row in rung["candidates"]]
    first, last = found["rungs"]
    assert set(labels(last["candidates"])) == set(labels(first["candidates"])[:3])
    assert found["chosen"] == last["candidates"][0]["settings"]


def test_the_cost_is_that_of_its_rungs(tuned: Path) -> None:
    found = read(tuned)
    epochs = sum((count + 1) * length for count, length in rungs(5, 2))
    assert found["cost"]["trainings"] == epochs / 2
    assert found["cost"]["trainings_of_all"] == 5
    files = {path.stem for path in (tuned / "trials").glob("*.json")}
    tried = {f"weight={weight}" for weight in ("1.0", "3.3", "10.0", "30.0", "100.0")}
    assert files == {f"{name}-e{length}" for name in (*tried, "finetune") for length in (1, 2)}, "in full for the peek"
    assert {path.suffix for path in (tuned / "trials").iterdir()} == {".json"}, "no checkpoint is left"


@pytest.mark.parametrize(("count", "epochs"), [*itertools.product([1, 2, 5, 25], [1, 2, 3, 8, 60])])
def test_rungs_end_in_full_and_never_train_less_than_an_epoch(count: int, epochs: int) -> None:
    plan = rungs(count, epochs)
    assert plan[0][0] == count
    assert plan[-1][1] == epochs
    assert plan[0][1] >= 1
    for (more, shorter), (fewer, longer) in itertools.pairwise(plan):
        assert fewer == math.ceil(more / 2)
        assert shorter == longer // 2
    assert plan[0][1] == 1 or plan[-1][0] == 1, "it is thinned out as far as it goes"


def test_given_again_nothing_is_repeated(photos: Path, tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(tuned)

    def refuse(*_: object) -> None:
        raise AssertionError("work was done again")

    for module, name in ((trial, "learn"), (Encoder, "embed"), (trial, "make_method"), (experiment, "run")):
        monkeypatch.setattr(module, name, refuse)
    assert tuning.tune(options(photos), tuned, peek=True) == before
    assert read(tuned) == before


def test_cut_it_goes_on_and_chooses_the_same(
    photos: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuning.tune(options(photos), tmp_path / "whole", GRID, start=tuned / "start")
    learn, calls = trial.learn, itertools.count()

    def cut(*arguments: Any) -> Any:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return learn(*arguments)

    monkeypatch.setattr(trial, "learn", cut)
    with pytest.raises(KeyboardInterrupt):
        tuning.tune(options(photos), tmp_path / "cut", GRID, start=tuned / "start")
    resumed = tuning.tune(options(photos), tmp_path / "cut", GRID, start=tuned / "start")
    assert next(calls) == 1 + sum(count + 1 for count, _ in rungs(3, 2)), "four were not learned again"
    assert without_times(resumed) == without_times(whole)


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if not key.startswith("seconds")}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def test_the_snippet_goes_into_a_recipe_and_the_page_says_it_all(photos: Path, tuned: Path) -> None:
    chosen = read(tuned)["chosen"]
    tables = read_toml(tuned / "chosen.toml")
    assert tables == {"methods": {"l2": chosen}}
    assert resolve(tables, Entry("l2"))["method"]["weight"] == chosen["weight"]
    page = (tuned / "tune.md").read_text(encoding="utf-8")
    for row in (*read(tuned)["rungs"][0]["candidates"], *read(tuned)["peek"]["candidates"]):
        assert row["label"] in page
        assert f"{row['score']:.3f}" in page
    assert all(line in page for line in lines(read(tuned)))


def test_peeking_judges_the_choice_by_old_data(tuned: Path) -> None:
    peek = read(tuned)["peek"]
    distances = {row["label"]: row["corner"] for row in peek["candidates"]}
    assert len(distances) == 5
    assert peek["oracle"]["corner"] == min(distances.values())
    assert peek["chosen"]["corner"] == distances[peek["chosen"]["label"]]
    assert peek["chosen"]["rank"] == 1 + sum(each < peek["chosen"]["corner"] for each in distances.values())
    assert max(row["seen_of_best"] for row in peek["candidates"]) == 1


def old(kept: float, seen: float, gallery: float) -> dict[str, float | None]:
    gallery_before = {"old_gallery_reindexed": 0.4, "old_gallery_before": 0.4}
    return {"before": 0.5, "old": kept / 2, "seen": seen, "old_gallery": gallery * 0.4, **gallery_before}


def test_the_oracle_on_a_table() -> None:
    rows = [{"label": label, "score": value} for label, value in (("a", 0.5), ("b", 0.9), ("c", 0.7), ("d", 0.1))]
    measured = [old(0.7, 0.6, 0.58), old(1.1, 0.588, 0.78), old(1.0, 0.57, 0.98), old(0.6, 0.3, 0.48)]
    found = tuning.oracle(rows, measured, "b")
    corners = {row["label"]: row["corner"] for row in found["candidates"]}
    assert corners == pytest.approx({"c": 0.03, "b": 0.2, "a": 0.5, "d": math.hypot(0.4, 0.48, 0.5)})
    assert list(corners) == ["c", "b", "a", "d"]
    assert found["oracle"] == {"label": "c", "corner": pytest.approx(0.03)}
    assert found["chosen"] == {"label": "b", "corner": pytest.approx(0.2), "rank": 2}
    assert found["spearman"] == pytest.approx(0.8)


def test_an_old_gallery_that_is_forgotten_when_re_indexed_too_counts_as_lost() -> None:
    forgetful = {**old(1.0, 0.6, 0.5), "old_gallery_reindexed": 0.2}
    found = tuning.oracle([{"label": "a", "score": 0.5}], [forgetful], "a")
    assert found["candidates"][0]["old_gallery_kept"] == pytest.approx(1.0)
    assert found["candidates"][0]["old_gallery_absolute"] == pytest.approx(0.5)
    assert found["oracle"]["corner"] == pytest.approx(0.48)


def test_trials_of_an_older_version_are_judged_without_training(
    photos: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tuned, tmp_path / "out")
    for path in (tmp_path / "out" / "trials").glob("*.json"):
        figures = json.loads(path.read_text(encoding="utf-8"))
        if figures["peek"] is not None:
            del figures["peek"]["old_gallery_before"]
            figures["peek"]["old_gallery_anew"] = figures["peek"].pop("old_gallery_reindexed")
        path.write_text(json.dumps(figures), encoding="utf-8")
    path = tmp_path / "out" / "config.json"
    path.write_text(path.read_text(encoding="utf-8").replace("images_per_class", "pictures_per_class"))

    def refuse(*_: object) -> None:
        raise AssertionError("a candidate was trained again")

    monkeypatch.setattr(trial, "learn", refuse)
    assert tuning.tune(options(photos), tmp_path / "out", peek=True) == read(tuned)


def test_an_oracle_without_old_test_images_is_refused() -> None:
    with pytest.raises(DataError, match="leave --peek out"):
        tuning.oracle([{"label": "a", "score": 0.5}], [{**old(1, 1, 1), "old": None}], "a")


def test_the_score_is_its_formula_and_counts_nothing_above_what_is_needed() -> None:
    plain = {"plasticity": 0.5}
    figures = {"plasticity": 0.4, "cross": 0.3, "cross_start": 0.4, "agreement": 0.9}
    assert tuning.score(figures, plain) == pytest.approx((0.8 * 0.75 * 0.9) ** (1 / 3))
    assert tuning.score({**figures, "plasticity": 0.6, "cross": 0.5}, plain) == pytest.approx(0.9 ** (1 / 3))
    assert tuning.score({**figures, "plasticity": 0.0}, plain) == 0
    assert tuning.score(figures, {"plasticity": 0.0}) == 0


def test_places_and_correlations_with_equals() -> None:
    assert [place([0.2, 0.1, 0.2], index) for index in range(3)] == [2, 1, 2]
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 1, 2], [1, 1, 3]) == pytest.approx(1)
    assert spearman([1, 1], [1, 2]) is None


def test_agreement_is_as_in_loops_and_ends_where_it_should() -> None:
    z_o, z_n = (np.random.default_rng(seed).normal(size=(6, 4)).astype(np.float32) for seed in (0, 1))
    z_o, z_n = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (z_o, z_n))
    common = 0.0
    for i in range(6):
        shares = []
        for z in (z_o, z_n):
            weight = {j: math.exp(float(z[i] @ z[j]) / 0.1) for j in range(6) if j != i}
            shares.append({j: value / sum(weight.values()) for j, value in weight.items()})
        common += sum(min(shares[0][j], shares[1][j]) for j in shares[0]) / 6
    assert agreement(z_o, z_n) == pytest.approx(common, rel=1e-5)
    assert agreement(z_o, z_o) == 1
    turned = z_o @ np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0].astype(np.float32)
    assert agreement(z_o, turned) == pytest.approx(1, abs=1e-5)
    assert agreement(z_o[:2], z_n[:2]) == agreement(z_o[:0], z_n[:0]) == 1


def test_the_grid_lies_around_the_weights_of_the_options() -> None:
    found = candidates({"name": "mmd", "alpha": 1.0})
    assert len(found) == 25
    assert {each.settings["alpha"] for each in found} == {0.1, 0.33, 1.0, 3.0, 10.0}
    assert {each.settings["beta"] for each in found} == {0.3, 1.0, 3.0, 9.0, 30.0}
    assert [each.settings for each in candidates({"name": "mmd"}, ["alpha=0,1"])] == [{"alpha": 0}, {"alpha": 1}]
    assert [each.method for each in candidates({"name": "l2", "form": "cosine"}, ["weight=2"])] == [
        {"name": "l2", "form": "cosine", "weight": 2}
    ]


def test_of_too_many_candidates_the_seed_draws_some() -> None:
    every, some = (candidates({"name": "mmd"}, trials=count, seed=1) for count in (25, 10))
    assert len(some) == 10
    assert [each for each in every if each in some] == some
    assert candidates({"name": "mmd"}, trials=10, seed=1) == some != candidates({"name": "mmd"}, trials=10, seed=2)


def test_what_all_methods_share_is_no_weight_of_one() -> None:
    assert weights(method("finetune").Options()) == {}
    assert weights(method("l2").Options(metric_weight=3.0)) == {"weight": 10.0}
    assert weights(method("lwf").Options(alpha=0.0)) == {}


@pytest.mark.parametrize(
    ("name", "asked", "trials", "part"),
    [
        ("nothing", [], 5, "unknown method 'nothing'"),
        ("finetune", [], 5, "no weight above 0"),
        ("joint", [], 5, "old images"),
        ("l2", ["wieght=1,2"], 5, "Did you mean 'weight'"),
        ("l2", ["weight=-1,2"], 5, "weight = -1"),
        ("l2", ["weight"], 5, "--grid weight: write it as"),
        ("l2", ["weight=1,,2"], 5, "--grid weight=1,,2: write it as"),
        ("l2", ["weight=1,1"], 5, "write it as"),
        ("l2", [], 0, "--trials 0"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(name: str, asked: list[str], trials: int, part: str) -> None:
    with pytest.raises(ConfigError) as refused:
        candidates({"name": name}, asked, trials)
    assert part in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_folder_or_start_is_refused(photos: Path, tuned: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was tuned with another seed"):
        tuning.tune(options(photos, seed=1), tuned)
    with pytest.raises(UserError, match="began with another seed"):
        tuning.tune(options(photos, seed=1), tmp_path / "a", start=tuned / "start")
    with pytest.raises(ConfigError, match="--session 2: this stream has the sessions 1 to 1"):
        tuning.tune(options(photos), tmp_path / "b", session=2)
    split = {"initial": OLD, "step": 1}
    experiment.run(options(photos, stream={**split, "sessions": 0}), tmp_path / "short")
    with pytest.raises(UserError, match="has no generation g1, where session 2 begins"):
        tuning.tune(options(photos, stream=split), tmp_path / "c", session=2, start=tmp_path / "short")


def test_the_command_line(tmp_path: Path, photos: Path, tuned: Path, call: tiny.Call) -> None:
    resolved = options(photos).model_dump(mode="json")
    given = {"source.name": "table", "source.path": str(photos), "stream.initial": OLD, "stream.step": NEW}
    sets = [f"{key}={value}" for key, value in given.items()]
    sets += [f"training.{key}={resolved['training'][key]}" for key in ("epochs", "increment_epochs")]
    sets += ["training.images_per_class=2"]
    (tmp_path / "r.toml").write_text("seed = 0\n", encoding="utf-8")
    known = (*TINY, *(part for each in sets for part in ("--set", each)))
    arguments = ("tune", "r.toml", "--out", "out", "--start", str(tuned / "start"), "--grid", "weight=1,50", *known)
    code, out, err = call(*arguments, "--method", "l2")
    assert code == 0, err
    assert out.startswith("l2, session 1: weight=")
    assert [Path(line).name for line in out.splitlines()[-3:]] == ["tune.md", "tune.json", "chosen.toml"]
    for name, part in (("nothing", "unknown method"), ("l2:wieght=1", "Did you mean"), ("l2,lwf", "one method")):
        code, _, err = call(*arguments, "--method", name)
        assert (code, err.count("\n")) == (2, 1), err
        assert part in err
