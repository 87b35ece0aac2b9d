"""What a catalogue trains further, and what a new generation brings along."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scrubjay.catalogue import Catalogue
from scrubjay.errors import CatalogueError, DataError
from scrubjay.gate.probe_set import ProbeOptions
from scrubjay.generations.lineage import Lineage
from scrubjay.learning import session as learning
from shops import METRIC, OPTIONS, SETTINGS, copied, images


@pytest.fixture
def shop(tmp_path: Path) -> Catalogue:
    return copied(tmp_path)


@pytest.fixture
def winter(tmp_path: Path) -> Path:
    return images(tmp_path / "winter", "medlar")


def test_a_sibling_knows_its_own_line_only(shop: Catalogue) -> None:
    g1, g2 = shop.lineage.get("g1"), shop.lineage.get("g2")
    assert (g1.parent, g2.parent) == ("g0", "g0")
    assert g1.classes == ("apple", "pear", "fig")
    assert g2.classes == ("apple", "pear", "plum")
    assert g2.info.line == ("g0",)
    assert shop.serving.read().generation == "g0", "what was learned answers nothing yet"


def test_what_is_named_is_trained_further(shop: Catalogue, winter: Path) -> None:
    made = shop.learn(winter, start="g1")
    assert (made.name, made.parent, made.info.line) == ("g3", "g1", ("g1", "g0"))
    assert made.classes == ("apple", "pear", "fig", "medlar")
    with pytest.raises(CatalogueError, match="no generation 'g9'; there are: g0, g1, g2, g3"):
        shop.learn(winter, start="g9")


def test_by_default_the_newest_is_trained_further(shop: Catalogue, winter: Path) -> None:
    assert shop.learn(winter).parent == "g2"


def test_what_was_rolled_back_from_is_not_trained_further(shop: Catalogue, winter: Path) -> None:
    shop.promote("g2")
    shop.rollback()
    made = shop.learn(winter)
    assert (made.parent, made.classes) == ("g1", ("apple", "pear", "fig", "medlar"))
    shop.promote("g2")
    assert shop.learn(images(winter.parent / "more", "quince")).parent == "g3"


def test_a_class_is_new_on_its_line_or_refused(shop: Catalogue, tmp_path: Path) -> None:
    before = [each.name for each in shop.lineage.generations()]
    for start, season, known in (("g1", "summer", "fig"), ("g2", "autumn", "plum"), (None, "spring", "apple")):
        with pytest.raises(DataError, match=known):
            shop.learn(tmp_path / season, start=start)
    assert [each.name for each in shop.lineage.generations()] == before
    assert not shop.interrupted()
    assert shop.learn(tmp_path / "autumn", start="g1").classes == ("apple", "pear", "fig", "plum")


def test_the_bridges_of_a_generation_lead_to_its_parent_and_back(shop: Catalogue) -> None:
    for name in ("g1", "g2"):
        generation = shop.lineage.get(name)
        bridges, embedded = shop.lineage.bridges(generation), shop.lineage.embeddings(generation)
        assert set(bridges) == set(generation.info.bridges) == {"to_parent", "from_parent"}
        assert embedded.train is not None
        assert embedded.test is not None
        new, old = embedded.train.new, embedded.train.old
        assert (len(new), len(embedded.test.new)) == (5, 3)
        for direction, source, target in (("to_parent", new, old), ("from_parent", old, new)):
            told = generation.info.bridges[direction]
            assert told.chosen == bridges[direction].kind
            assert {"identity", told.chosen} <= told.figures.keys()
            carried = np.vecdot(bridges[direction](source), target).mean()
            assert carried >= np.vecdot(source, target).mean() - 0.05, "hardly worse than no bridge where it was fitted"
    assert shop.lineage.bridges(shop.lineage.get("g0")) == {}


def test_the_images_that_were_held_out_become_probes(shop: Catalogue) -> None:
    for name, labels in (("g0", ["apple"] * 3 + ["pear"] * 3), ("g1", ["fig"] * 3)):
        index = json.loads((shop.folder / "probe" / name / "index.json").read_text())
        assert [row["label"] for row in index["images"]] == labels
        assert all("/test/" in row["original"] for row in index["images"])


def test_no_probe_image_is_kept_where_none_is_wanted_or_held_out(tmp_path: Path) -> None:
    shop = Catalogue.init(tmp_path / "shop", OPTIONS.model_copy(update={"probe": ProbeOptions(images=0)}))
    shop.learn(images(tmp_path / "spring", "apple", "pear"))
    made = shop.learn(images(tmp_path / "summer", "fig", test=0))
    assert made.info.measured == {"new": None, "new_before": None}
    assert not list((shop.folder / "probe").rglob("*.png"))
    shop.add([tmp_path / "spring/train"])
    assert "no probe images" in shop.gate("g1").reasons[0]


@pytest.mark.parametrize("moment", ["before the probe images", "before the generation"])
def test_learning_that_is_cut_short_leaves_nothing_half_and_goes_on(
    shop: Catalogue, winter: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if moment == "before the generation":
            patched.setattr(Lineage, "add", killed)
        else:
            patched.setattr("scrubjay.gate.probe_set.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            shop.learn(winter)
    assert [each.name for each in shop.lineage.generations()] == ["g0", "g1", "g2"]
    assert not list((shop.folder / "probe").glob(".g3*"))
    assert (shop.folder / "probe" / "g3").exists() == (moment == "before the generation")
    report = shop.gate("g2")
    assert report.probe_images == 9, "what is not made yet does not judge"

    made = shop.learn(winter)
    assert made.name == "g3"
    assert not shop.interrupted()
    probes = json.loads((shop.folder / "probe" / "g3" / "index.json").read_text())["images"]
    assert [row["label"] for row in probes] == ["medlar"] * 3


def test_something_else_may_be_learned_instead_of_what_was_cut_short(
    shop: Catalogue, winter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Lineage, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            shop.learn(winter)
    made = shop.learn(images(tmp_path / "late", "quince"), start="g1")
    assert (made.name, made.classes[-1]) == ("g3", "quince")
    probes = json.loads((shop.folder / "probe" / "g3" / "index.json").read_text())["images"]
    assert {row["label"] for row in probes} == {"quince"}, "those of what was cut short are gone"


def test_many_images_are_thinned_class_by_class(shop: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    from scrubjay.types import Sample

    monkeypatch.setattr(learning, "KEPT", 7)
    samples = [
        Sample(Path(f"{label}-{number}"), label) for label, count in enumerate((9, 2, 5)) for number in range(count)
    ]
    kept = learning._balanced(samples)
    assert [str(samples[position].path) for position in kept] == ["0-0", "0-1", "0-2", "1-0", "1-1", "2-0", "2-1"]
    assert learning._balanced(samples[:7]) == list(range(7))


def test_no_bridge_is_fitted_between_aligned_metrics(tmp_path: Path) -> None:
    """A map that is fitted to new classes would move the old ones away."""
    shop = Catalogue.init(tmp_path / "shop", METRIC)
    shop.learn(images(tmp_path / "first", "ash", "oak", "elm"), settings=SETTINGS)
    generation = shop.learn(images(tmp_path / "second", "fir", "lime"), settings=SETTINGS)
    assert {record.chosen for record in generation.info.bridges.values()} == {"identity"}
    assert all(not bridge.tensors for bridge in shop.lineage.bridges(generation).values())
    unaligned = shop.learn(images(tmp_path / "third", "pine", "teak"), settings={**SETTINGS, "align": False})
    assert all(len(record.figures) > 1 for record in unaligned.info.bridges.values())


def test_a_catalogue_can_train_its_trunk_on_stored_activations(tmp_path: Path) -> None:
    network = METRIC.network.model_copy(update={"frozen": "layer2"})
    shop = Catalogue.init(tmp_path / "shop", METRIC.model_copy(update={"network": network}))
    shop.learn(images(tmp_path / "first", "ash", "oak", "elm"), "latent_replay")
    shop.add([tmp_path / "first" / "train"])
    generation = shop.learn(images(tmp_path / "second", "fir", "lime"))
    assert generation.info.method["name"] == "latent_replay"
    assert generation.info.statistics == ()
    assert shop.gallery.store.features.codecs() == {}, "the next trunk is another one, so its features are of no use"
    shop.promote(generation.name, force=True)
    assert shop.backfill().complete
    with pytest.raises(CatalogueError, match="trains weights, and from weights nothing can be removed"):
        shop.upkeep.forget(["oak"], [])
    with pytest.raises(DataError, match="class 'ash' is already learned"):
        shop.learn(images(tmp_path / "third", "ash", "pine"))


def test_a_catalogue_can_carry_its_statistics_to_a_trunk_that_is_trained_on(tmp_path: Path) -> None:
    shop = Catalogue.init(tmp_path / "shop", METRIC)
    shop.learn(images(tmp_path / "first", "ash", "oak", "elm"), "carried_slda")
    shop.add([tmp_path / "first" / "train"])
    generation = shop.learn(images(tmp_path / "second", "fir", "lime"))
    assert generation.info.method["name"] == "carried_slda"
    assert generation.info.statistics == (), "they are kept with the method"
    assert generation.info.trunk != shop.lineage.get("g0").info.trunk
    assert shop.gallery.store.features.codecs() == {}, "the next trunk is another one, so its features are of no use"
    shop.promote(generation.name, force=True)
    assert shop.backfill().complete
    third = shop.learn(images(tmp_path / "third", "pine", "yew"))
    assert third.classes == ("ash", "elm", "oak", "fir", "lime", "pine", "yew")
    with pytest.raises(CatalogueError, match="trains weights, and from weights nothing can be removed"):
        shop.upkeep.forget(["oak"], [])


@pytest.mark.parametrize("adapt", ["first", "auto"])
def test_the_first_session_of_a_catalogue_may_train_the_trunk(adapt: str, tmp_path: Path) -> None:
    shop = Catalogue.init(tmp_path / "shop", METRIC)
    shop.learn(images(tmp_path / "first", "ash", "oak", "elm", "fir"), settings={**SETTINGS, "adapt": adapt})
    shop.add([tmp_path / "first" / "train"])
    second = shop.learn(images(tmp_path / "second", "lime", "pine"), settings={**SETTINGS, "adapt": adapt})
    first = shop.lineage.get("g0")
    assert first.info.trunk == second.info.trunk, "later sessions do not train it"
    shop.promote("g1", force=True)
    assert shop.backfill().from_features == 20


def test_a_broken_image_of_a_known_class_does_not_stop_learning(tmp_path: Path) -> None:
    shop = Catalogue.init(tmp_path / "shop", METRIC)
    photos = images(tmp_path / "photos", "ash", "oak")
    broken = photos / "train" / "oak" / "broken.png"
    broken.write_text("no image")
    shop.learn(photos, settings=SETTINGS)
    with pytest.raises(DataError, match=r"nothing to learn: no image that was not learned before .*broken\.png"):
        shop.learn(photos)
    generation = shop.learn(images(photos, "elm"))
    assert generation.info.new_classes == ("elm",)
    assert [Path(path).name for path, _ in generation.info.broken] == ["broken.png"]
