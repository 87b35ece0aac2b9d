from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import tiny
from scrubjay import bridges as maps
from scrubjay.bridges import PairedEmbeddings, choose
from scrubjay.data.images import ImageOptions
from scrubjay.data.stream import data_hash
from scrubjay.errors import CheckpointError, ConfigError, UserError
from scrubjay.experiments import phases
from scrubjay.experiments.measurement import METRICS, Measured
from scrubjay.experiments.recipe import own_entry, resolve
from scrubjay.experiments.result import ADDED, completed, is_current
from scrubjay.experiments.run import ExperimentOptions, load_stream, run
from scrubjay.generations.lineage import Lineage
from scrubjay.models.checkpoint import load_tensors
from scrubjay.models.embedding import Encoder

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "result.schema.json").read_text(encoding="utf-8"))
SESSIONS = ((0, 1), (2,), (3,))
IMAGES = ImageOptions(size=32, resize=36)


def recipe(root: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "source": {"name": "folder", "root": str(root)},
        "stream": {"initial": 2, "step": 1, "unseen": 1},
        "images": {"size": 32, "resize": 36},
        "network": {"backbone": "test_resnet", "pretrained": False, "dim": 8},
        "method": {"name": "mmd"},
        "training": {"epochs": 1, "classes_per_batch": 2, "images_per_class": 2, "device": "cpu"},
        **changes,
    }


def options(root: Path, **changes: Any) -> ExperimentOptions:
    return ExperimentOptions.parse(recipe(root, **changes))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tree(tmp_path_factory.mktemp("photos"), classes=5)


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "whole"
    run(options(photos), out)
    return out


def read(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))
    return found


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "phases"}


def weights(out: Path, name: str) -> dict[str, Any]:
    return load_tensors(out / "generations" / name / "network.safetensors", "")[0]


def test_the_result_is_as_documented(finished: Path, photos: Path) -> None:
    result = read(finished)
    jsonschema.validate(result, SCHEMA)
    assert result["config"] == options(photos).model_dump(mode="json")
    assert [session["classes"] for session in result["sessions"]] == [["class0", "class1"], ["class2"], ["class3"]]
    assert result["data"]["classes"] == [f"class{label}" for label in range(5)]
    phases = [(phase["phase"], phase["session"]) for phase in result["phases"]]
    assert phases == [
        ("learn", 0),
        ("learn", 1),
        ("learn", 2),
        ("embed", 0),
        ("embed", 1),
        ("embed", 2),
        ("bridge", 1),
        ("bridge", 2),
        ("evaluate", 2),
    ]
    assert result["curves"]["0"].keys() == {"ce", "triplet"}
    assert result["curves"]["2"].keys() == {"ce", "triplet", "dist", "mmd"}
    assert not list(finished.glob("session*")), "no checkpoint is left"


def test_the_figures_follow_from_the_kept_embeddings(finished: Path) -> None:
    result = read(finished)
    measured = [Measured.load(finished / "measured" / f"g{t}.safetensors") for t in range(3)]

    def items(part: Any, labels: Any, ids: int = 0) -> list[tuple[Any, int, int]]:
        triples = zip(part.vectors, part.labels.tolist(), range(ids, ids + len(part.labels)), strict=True)
        return [item for item in triples if item[1] in labels]

    for t, newer in enumerate(measured):
        for j, older in enumerate(measured):
            group = items(newer.test, SESSIONS[j])
            queries = items(newer.test, range(SESSIONS[j][-1] + 1), ids=1000)
            gallery = items(older.gallery, range(5))
            for metric in METRICS:
                assert tiny.agrees(result["accuracy"][metric][t][j], metric, group, group)
                found = result["compatibility"][metric][t][j]
                assert found is None if j > t else tiny.agrees(found, metric, queries, gallery)


def test_phases_say_how_much_memory_they_had(finished: Path) -> None:
    peaks = [phase["peak_mb"] for phase in read(finished)["phases"]]
    assert all(isinstance(peak, int) and 50 < peak < 100_000 for peak in peaks)


def test_the_peak_of_a_phase_is_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    held = bytearray(400 * 2**20)
    whole = phases.Phase(0, "learn").record(1)
    del held
    later = phases.Phase(1, "learn").record(1)
    if later["peak_since"] == "phase":
        assert later["peak_mb"] < whole["peak_mb"] - 300
    monkeypatch.setattr(phases, "_CLEAR", tmp_path / "missing" / "clear_refs")
    fallback = phases.Phase(1, "learn").record(1)
    assert fallback["peak_since"] == "start"
    assert fallback["peak_mb"] > 50


def test_a_bridge_leads_from_every_generation_to_its_parent(finished: Path, photos: Path) -> None:
    result = read(finished)
    assert result["bridges"][0] is None
    stream, _ = load_stream(options(photos))
    lineage = Lineage(finished / "generations")
    for t in (1, 2):
        view = Encoder(lineage.network(lineage.get(f"g{t - 1}")).embedder, IMAGES).embed(stream.sessions[t].train)
        measured = Measured.load(finished / "measured" / f"g{t}.safetensors")
        own = measured.gallery.labels >= stream.sessions[t].first_label
        pairs = PairedEmbeddings(measured.gallery.vectors[own], view.vectors, view.labels)
        choice = choose(pairs, pairs.where(np.zeros(len(pairs.labels), dtype=bool)))
        assert result["bridges"][t]["kind"] == choice.bridge.kind
        stored = maps.load(finished / "measured" / f"g{t}.bridge.safetensors")["to_parent"]
        for vectors in (measured.test.vectors, view.vectors):
            np.testing.assert_array_equal(stored(vectors), choice.bridge(vectors))


def test_a_result_of_an_older_version_gets_the_figures_of_this_one(
    finished: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    kept = read(finished)
    older = {key: value for key, value in kept.items() if key not in ADDED}
    (tmp_path / "run" / "result.json").write_text(json.dumps(older), encoding="utf-8")
    for path in (tmp_path / "run" / "measured").glob("*.bridge.*"):
        path.unlink()
    assert not is_current(older)
    again = run(options(photos), tmp_path / "run")
    assert is_current(again)
    assert without_times(again) == without_times(kept)
    completed_ = completed(older)
    assert completed_["retained"] == kept["retained"]
    assert completed_["backward_compatibility"] == {"plain": kept["backward_compatibility"]["plain"], "bridged": None}
    assert completed({"accuracy": {"map_at_r": 3}, "compatibility": None}).keys() == {"accuracy", "compatibility"}


def test_images_that_are_gone_leave_figures_over_bridges_unmeasured(tmp_path: Path) -> None:
    photos = tiny.tree(tmp_path / "photos", classes=3)
    chosen = options(photos, stream={"initial": 2, "step": 1})
    before = run(chosen, tmp_path / "run")
    for path in (tmp_path / "run" / "measured").glob("*.bridge.*"):
        path.unlink()
    for path in (photos / "train" / "class2").glob("*.png"):
        path.write_text("no image")
    after = run(chosen, tmp_path / "run")
    assert after["bridges"] == [None, None]
    assert after["bridged"]["map_at_r"][1][0] is None
    assert after["bridged"]["map_at_r"][1][1] == before["compatibility"]["map_at_r"][1][1]
    assert after["backward_compatibility"]["bridged"]["map_at_r"]["ac"] is None
    assert after["negative_flips"]["old_gallery"] == before["negative_flips"]["old_gallery"]
    assert after["compatibility"] == before["compatibility"]
    jsonschema.validate(after, SCHEMA)


FROZEN = {
    "network": {"backbone": "test_resnet", "pretrained": False, "dim": 8, "frozen": "layer1"},
    "stream": {"initial": 2, "step": 2},
}


@pytest.fixture(scope="module")
def without_activations(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("frozen") / "run"
    run(options(photos, **FROZEN, images={"size": 32, "resize": 36, "views": 2}), out)
    return out


def same_run(one: Path, other: Path) -> bool:
    generations = ("g0", "g1")
    weights_agree = all(tiny.same(weights(one, name), weights(other, name)) for name in generations)
    measured = [
        [load_tensors(out / f"measured/{name}.safetensors", "")[0] for name in generations] for out in (one, other)
    ]
    return weights_agree and all(tiny.same(*pair) for pair in zip(*measured, strict=True))


def test_kept_activations_change_nothing(
    photos: Path, without_activations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = options(photos, **FROZEN, images={"size": 32, "resize": 36, "views": 2})
    expected = without_times(read(without_activations))
    assert without_times(run(chosen, tmp_path / "kept", activations=tmp_path / "activations")) == expected
    assert same_run(tmp_path / "kept", without_activations)
    files = [path for path in (tmp_path / "activations").iterdir() if path.suffix == ".sqlite"]
    assert len(files) == 1

    def never(*_: object) -> None:
        raise AssertionError("the frozen part ran although all its activations were kept")

    monkeypatch.setattr("scrubjay.models.stem.Stem._chunk", never)
    monkeypatch.setattr("scrubjay.models.stem.Stem._check", lambda *_: None)
    assert without_times(run(chosen, tmp_path / "again", activations=tmp_path / "activations")) == expected
    assert same_run(tmp_path / "again", without_activations)


def test_activations_that_other_runs_left_change_nothing(
    photos: Path, without_activations: Path, tmp_path: Path
) -> None:
    chosen = options(photos, **FROZEN, images={"size": 32, "resize": 36, "views": 2})
    kept = tmp_path / "activations"
    other = options(
        photos, **FROZEN, images={"size": 32, "resize": 36, "views": 2}, seed=0, method={"name": "finetune"}
    )
    run(other, tmp_path / "other", activations=kept)
    with sqlite3.connect(next(kept.glob("*.sqlite"))) as file:
        file.execute("DELETE FROM activations WHERE crop % 2 = 0")
    assert without_times(run(chosen, tmp_path / "run", activations=kept)) == without_times(read(without_activations))
    assert same_run(tmp_path / "run", without_activations)


@pytest.mark.parametrize("precision", ["bf16"])
def test_crops_without_end_and_mixed_precision_are_the_same_too(precision: str, photos: Path, tmp_path: Path) -> None:
    training = {"epochs": 1, "classes_per_batch": 2, "images_per_class": 2, "device": "cpu", "precision": precision}
    chosen = options(photos, **FROZEN, training=training)
    run(chosen, tmp_path / "plain")
    run(chosen, tmp_path / "kept", activations=tmp_path / "activations")
    assert same_run(tmp_path / "kept", tmp_path / "plain")


def test_a_folder_of_activations_is_left_alone_by_a_network_that_is_all_trained(photos: Path, tmp_path: Path) -> None:
    run(options(photos, stream={"initial": 2, "step": 2}), tmp_path / "run", activations=tmp_path / "activations")
    assert not (tmp_path / "activations").exists()


def test_run_again_nothing_is_done_again(finished: Path, photos: Path) -> None:
    kept = [path for path in finished.rglob("*") if path.is_file() and path.name not in ("result.json", "lock")]
    before, result = {path: path.stat().st_mtime_ns for path in kept}, read(finished)
    again = run(options(photos), finished)
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert without_times(again) == without_times(result)
    assert again["phases"][:-1] == result["phases"][:-1]


@pytest.mark.parametrize("lost", [("measured/g2.safetensors",), ("measured/g0.json", "reference.json")])
def test_what_was_lost_is_made_again(lost: tuple[str, ...], finished: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    for name in lost:
        (tmp_path / "run" / name).unlink()
    assert without_times(run(options(photos), tmp_path / "run")) == without_times(read(finished))


def test_an_interrupted_run_goes_on(finished: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    for path in [*(tmp_path / "run").glob("generations/g[12]"), *(tmp_path / "run").glob("measured/g[12]*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (tmp_path / "run" / "session0.safetensors").write_bytes(b"left by a kill just after the generation was written")
    assert without_times(run(options(photos), tmp_path / "run")) == without_times(read(finished))
    for name in ("g1", "g2"):
        assert tiny.same(weights(tmp_path / "run", name), weights(finished, name))
    assert not list((tmp_path / "run").glob("session*"))


@pytest.mark.parametrize(("name", "same"), [("mmd", True), ("joint", False)])
def test_old_images_are_looked_at_only_by_methods_that_need_them(name: str, same: bool, tmp_path: Path) -> None:
    photos = tiny.tree(tmp_path / "photos", classes=3)
    chosen = options(photos, method={"name": name}, stream={"initial": 2, "step": 1})
    run(chosen, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "generations" / "g1")
    for path in (tmp_path / "cut" / "measured").glob("g1*"):
        path.unlink()
    for label in range(2):
        for seed in range(1, 4):
            tiny.paint(photos / "train" / f"class{label}" / f"{seed}.png", hue=label, seed=seed + 50)
    run(chosen, tmp_path / "cut")
    assert tiny.same(weights(tmp_path / "cut", "g1"), weights(tmp_path / "whole", "g1")) == same
    stream, root = load_stream(chosen)
    learned_from = [*(stream.sessions[0].train if name == "joint" else ()), *stream.sessions[1].train]
    assert read(tmp_path / "cut")["data"]["hash"][1] == data_hash(learned_from, root)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": 1}, r"seed \(0, now 1\)"),
        ({"method": {"name": "mmd", "alpha": 2.0}}, r"method.alpha \(3.0, now 2.0\)"),
        ({"stream": {"initial": 2, "step": 2, "unseen": 1}}, r"stream.step \(1, now 2\)"),
    ],
)
def test_other_options_in_the_folder_of_a_run_are_refused(
    changes: dict[str, Any], key: str, finished: Path, photos: Path
) -> None:
    before = (finished / "config.json").read_bytes()
    with pytest.raises(UserError, match=f"holds a run with another {key}"):
        run(options(photos, **changes), finished)
    assert (finished / "config.json").read_bytes() == before


def test_a_run_of_an_older_version_resumes(finished: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["training"]["pictures_per_class"] = config["training"].pop("images_per_class")
    del config["method"]["drift"]  # an option that came later
    path.write_text(json.dumps(config), encoding="utf-8")
    assert without_times(run(options(photos), tmp_path / "run")) == without_times(read(finished))
    other = options(photos, method={"name": "finetune"})
    assert run(other, tmp_path / "other", start=tmp_path / "run")["method"] == "finetune"
    changed = options(photos, training={**recipe(photos)["training"], "images_per_class": 3})
    with pytest.raises(UserError, match=r"another training.images_per_class \(2, now 3\)"):
        run(changed, tmp_path / "run")


def test_an_old_config_that_cannot_be_parsed_is_compared_as_it_is(finished: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "gone": 1}), encoding="utf-8")
    with pytest.raises(UserError, match=r"another gone \(1, now None\)"):
        run(options(photos), tmp_path / "run")


def test_the_default_method_learns_in_closed_form(photos: Path) -> None:
    values = {key: value for key, value in recipe(photos).items() if key != "method"}
    for given in (values, resolve(values, own_entry(values))):
        parsed = ExperimentOptions.parse(given)
        assert parsed.method["name"] == "slda"
        assert parsed.network.features == "stages"
    own = {**values, "methods": {"slda": {"views": 2}}}
    assert ExperimentOptions.parse(resolve(own, own_entry(own))).method["views"] == 2


def test_a_method_sets_the_features_that_the_recipe_leaves_open(photos: Path) -> None:
    def features(name: str, **network: object) -> object:
        values = recipe(photos)
        values["network"] |= network
        return ExperimentOptions.parse({**values, "method": {"name": name}}).network.features

    assert features("finetune") == "last"
    assert features("slda") == "stages"
    assert features("slda", features="last") == "last"
    assert features("finetune", features="stages") == "stages"


def test_the_seed_orders_classes_that_are_shuffled(photos: Path) -> None:
    def seed(stream: dict[str, Any]) -> int:
        return options(photos, seed=3, stream={"initial": 2, "step": 1, **stream}).stream.seed

    assert seed({"order": "shuffle"}) == 3
    assert seed({"order": "shuffle", "seed": 1}) == 1
    assert seed({}) == seed({"order": "label"}) == 0


def test_another_method_starts_from_the_same_initial_session(finished: Path, photos: Path, tmp_path: Path) -> None:
    other = options(photos, name="other", method={"name": "finetune"})
    result = run(other, tmp_path / "run", start=finished)
    assert (tmp_path / "run/generations/g0/network.safetensors").read_bytes() == (
        finished / "generations/g0/network.safetensors"
    ).read_bytes()
    assert without_times(result) == without_times(run(other, tmp_path / "alone"))
    with pytest.raises(UserError, match=r"began with another seed \(0, now 1\)"):
        run(options(photos, seed=1), tmp_path / "third", start=finished)


def test_broken_images_are_in_the_result(tmp_path: Path) -> None:
    photos = tiny.tree(tmp_path / "photos", classes=2)
    broken = [photos / "train" / "class0" / "1.png", photos / "test" / "class1" / "2.png"]
    for path in broken:
        path.write_text("no image")
    result = run(options(photos, stream={"initial": 2, "step": 1}), tmp_path / "run")
    assert sorted(path for path, _ in result["data"]["broken"]) == sorted(map(str, broken))
    assert result["groups"][0]["seen"]["queries"] == 5


def test_a_damaged_config_is_named(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: damaged"):
        run(options(photos), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sead": 1}, r"unknown key 'sead'\. Did you mean 'seed'"),
        ({"training": {"epohcs": 1}}, r"unknown key 'training\.epohcs'\. Did you mean 'epochs'"),
        ({"method": {"name": "mmd", "alhpa": 1}}, r"method: unknown key 'alhpa'\. Did you mean 'alpha'"),
        ({"source": {"name": "folder", "rot": "x"}}, r"source: .*'ro"),
        ({"method": {"alpha": 1}}, r"method: key 'name' is missing"),
        ({"method": {"name": "nmd"}}, r"'nmd'.*Known: .*mmd"),
        ({"stream": {"initial": 1, "step": 1}}, r"stream\.initial = 1"),
    ],
)
def test_mistakes_in_a_recipe_are_named(changes: dict[str, Any], message: str, photos: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        options(photos, **changes)
    assert "\n" not in str(caught.value)


def test_stored_class_means_are_measured(finished: Path, photos: Path, tmp_path: Path) -> None:
    assert read(finished)["class_means"] == [None, None, None]
    result = run(options(photos, method={"name": "moments"}), tmp_path / "run")
    stored = load_tensors(tmp_path / "run/generations/g2/method.safetensors", "")[0]["memory.means"].numpy()
    test = Measured.load(tmp_path / "run/measured/g2.safetensors").test
    right = []
    for vector, label in zip(test.vectors, test.labels, strict=True):
        if label < len(stored):
            cosines = [float(vector @ mean) / float(mean @ mean) ** 0.5 for mean in stored]
            right.append(cosines.index(max(cosines)) == label)
    assert len(right) == 12
    assert result["class_means"][-1]["seen"] == pytest.approx(sum(right) / len(right))
    assert result["class_means"][0]["old"] is None


@pytest.mark.parametrize(
    "wrong",
    [{"method": {"name": "mmd", "metric": "tripplet"}}, {"network": {"backbone": "test_resnet", "frozen": "x"}}],
)
def test_options_that_cannot_be_leave_no_folder(wrong: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tripplet|no module 'x'"):
        run(
            options(photos, **{**wrong, "network": {"pretrained": False, **wrong.get("network", {})}}), tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()
