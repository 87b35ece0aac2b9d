from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from scrubjay.catalogue import Catalogue
from scrubjay.errors import CatalogueError, ConfigError, DataError, NotFoundError
from scrubjay.generations.class_names import ClassNames, NameChange
from scrubjay.inventory import class_changes
from scrubjay.inventory.classes import nearest_to_mean
from scrubjay.search.query_log import QueryLog
from shops import OPTIONS, SETTINGS, copied, images, metric_shop
from tiny import paint


def names(shop: Catalogue) -> dict[str, tuple[int, str | None]]:
    return {each.name: (each.items, each.learned_in) for each in shop.inventory.classes()}


def unit(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, 5)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_representatives_equal_loops() -> None:
    vectors, labels = unit(40, 0), [f"c{row % 3}" if row else "alone" for row in range(40)]
    ids = [f"{row:02d}" for row in range(40)]
    found = nearest_to_mean(ids, labels, vectors)
    for name in set(labels):
        rows = [row for row in range(40) if labels[row] == name]
        mean = sum(vectors[row] for row in rows) / len(rows)
        ranked = sorted(rows, key=lambda row: -float(vectors[row] @ mean))
        assert found[name] == [ids[row] for row in ranked[:4]]
    assert nearest_to_mean([], [], vectors[:0]) == {}


def test_classes_of_a_catalogue(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    assert names(shop) == {
        "apple": (8, "g0"),
        "fig": (5, "g1"),
        "kiwi": (5, "g1"),
        "pear": (5, "g0"),
        "plum": (5, "g0"),
    }
    label = {item.id: item.label for item in shop.gallery.store.items()}
    for each in shop.inventory.classes():
        assert len(each.representative) == 4
        assert {label[name] for name in each.representative} == {each.name}
    shop.inventory.change_item(next(iter(label)), label="quince")
    assert names(shop)["quince"] == (1, None)
    assert [each.name for each in Catalogue.init(tmp_path / "empty", OPTIONS).inventory.classes()] == []


@pytest.mark.parametrize("make", [copied, metric_shop])
def test_a_renamed_class_is_known_everywhere_under_its_new_name(make, tmp_path: Path) -> None:
    shop = make(tmp_path)
    query = tmp_path / "spring/test/pear/100.png"
    before = shop.answer(query, 20)
    other = Catalogue(shop.folder)
    other.inventory.classes()
    assert shop.inventory.rename_class("pear", "conference pear") == 5
    for opened in (shop, other, Catalogue(shop.folder)):
        found = opened.answer(query, 20)
        assert [hit.id for hit in found.hits] == [hit.id for hit in before.hits]
        assert (found.matched, found.match_score) == (before.matched, before.match_score)
        assert Counter(hit.label for hit in found.hits)["conference pear"] == 5
        assert "pear" not in names(opened)
        assert names(opened)["conference pear"] == (5, "g0")
        assert "conference pear" in opened.lineage.get("g0").classes
        labels = {probe.label for probe in opened.workspace.probe_set.probes(["g0"])}
        assert "conference pear" in labels
        assert "pear" not in labels
    hits = [hit for query in QueryLog(shop.folder / "queries.sqlite").recent() for hit in query.hits]
    assert all(hit[2] != "pear" for hit in hits)
    assert not [each for each in shop.upkeep.examine() if each.kind == "error"]
    name = "g1" if make is copied else "g0"
    report = shop.gate(name)
    assert not any("conference" in reason for reason in report.reasons)


def test_learning_goes_on_under_the_new_name(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    shop.inventory.rename_class("pear", "quince")
    for seed in range(40, 43):
        paint(tmp_path / "more/train/quince" / f"{seed}.png", sum(b"pear") % 13, seed)
    images(tmp_path / "more", "pear", train=4, test=2)  # the name is free for another class
    for path in (tmp_path / "more/train/pear").iterdir():
        paint(path, 11, int(path.stem) + 500)
    for path in (tmp_path / "more/test/pear").iterdir():
        paint(path, 11, int(path.stem) + 700)
    generation = shop.learn(tmp_path / "more", settings=SETTINGS)
    assert generation.info.new_classes == ("pear",)
    assert generation.info.extended_classes == ("quince",)
    assert shop.lineage.get("g2").classes == generation.classes
    assert Counter(generation.classes).most_common(1)[0][1] == 1
    shop.promote("g2", force=True)
    shop.add([tmp_path / "more/train"])
    assert names(shop)["pear"] == (4, "g2")
    assert names(shop)["quince"] == (8, "g0")
    shop.upkeep.forget(["quince"])
    assert "quince" not in names(shop)
    assert names(shop)["pear"] == (4, "g2")


def test_forgetting_a_renamed_class_leaves_what_was_never_learned_with_it(tmp_path: Path) -> None:
    """The same metric as in a catalogue in which nothing was renamed."""
    one, other = metric_shop(tmp_path / "one"), metric_shop(tmp_path / "other")
    one.inventory.rename_class("apple", "tmp")
    one.inventory.rename_class("pear", "apple")
    one.inventory.rename_class("tmp", "pear")  # the two have changed places
    one.upkeep.forget(["pear"])
    other.upkeep.forget(["apple"])
    assert one.serving.read().generation == other.serving.read().generation == "g2"
    assert one.lineage.get("g2").fingerprint == other.lineage.get("g2").fingerprint
    assert set(names(one)) == {"apple", "fig", "kiwi", "plum"}
    one.upkeep.forget(["apple"])
    other.upkeep.forget(["pear"])
    assert one.lineage.get("g3").fingerprint == other.lineage.get("g3").fingerprint


def test_merged_classes_are_learned_as_one(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    query = tmp_path / "summer/test/kiwi/100.png"
    before = shop.answer(query, 20)
    assert shop.inventory.merge_classes("kiwi", "fig") == 10
    assert names(shop) == {"apple": (8, "g0"), "fig": (10, "g1"), "pear": (5, "g0"), "plum": (5, "g0")}
    assert [hit.id for hit in shop.answer(query, 20).hits] == [hit.id for hit in before.hits]
    assert shop.lineage.get("g1").classes.count("fig") == 2
    (merged,) = [each for each in map(shop.lineage.statistics.get, ("g0", "g1")) if "fig" in each.classes]
    assert merged.classes.count("fig") == 1
    together = shop.lineage.statistics.total(shop.lineage.get("g1"))
    assert together is not None
    assert len(together.labels) == 4
    images(tmp_path / "autumn", "melon", train=4, test=2)
    learned = shop.learn(tmp_path / "autumn", settings=SETTINGS)
    assert learned.info.new_classes == ("melon",)
    shop.promote("g2", force=True)
    shop.backfill()
    assert shop.answer(query, 5).hits[0].label == "fig"
    assert not [each for each in shop.upkeep.examine() if each.kind == "error"]
    shop.upkeep.forget(["fig"])
    assert set(names(shop)) == {"apple", "melon", "pear", "plum"}


def test_the_statistics_of_merged_classes_are_those_of_one_class(tmp_path: Path) -> None:
    shop, other = metric_shop(tmp_path / "a"), metric_shop(tmp_path / "b")
    shop.inventory.merge_classes("pear", "plum")
    session = shop.lineage.statistics.get("g0")
    parts = other.lineage.statistics.get("g0")
    position = {"apple": 0, "pear": 1, "plum": 1}
    features = parts.images.features.double()  # type: ignore[union-attr]
    labels = np.array([position[parts.classes[label]] for label in parts.images.labels.tolist()])  # type: ignore[union-attr]
    crops = features.flatten(0, 1).numpy()
    of = np.repeat(labels, features.shape[1])
    for name, label in (("apple", 0), ("plum", 1)):
        row = session.statistics.labels.tolist().index(session.classes.index(name))
        assert np.allclose(session.statistics.means[row], crops[of == label].mean(0), atol=1e-6)
    scatter = sum(np.cov(crops[of == label].T, bias=True) * (of == label).sum() for label in (0, 1))
    assert np.allclose(session.statistics.scatter, scatter, atol=1e-5)


def test_a_network_that_is_trained_goes_on_after_a_merge(tmp_path: Path) -> None:
    shop = copied(tmp_path)
    shop.inventory.merge_classes("pear", "apple")
    images(tmp_path / "winter", "melon")
    generation = shop.learn(tmp_path / "winter", start="g0")
    assert generation.classes == ("apple", "apple", "melon")
    shop.promote(generation.name, force=True)
    assert names(shop)["apple"] == (10, "g0")


def test_what_cannot_be_done_is_refused(tmp_path: Path) -> None:
    inventory = copied(tmp_path).inventory
    with pytest.raises(NotFoundError, match="no class 'cherry'"):
        inventory.rename_class("cherry", "x")
    with pytest.raises(NotFoundError, match="no class 'cherry' to merge"):
        inventory.merge_classes("pear", "cherry")
    with pytest.raises(CatalogueError, match="merge 'pear' into it"):
        inventory.rename_class("pear", "apple")
    with pytest.raises(CatalogueError, match="a class 'fig' already"):
        inventory.rename_class("pear", "fig")  # learned, without an item
    for new in ("", " ", " pear"):
        with pytest.raises(ConfigError, match="cannot be the name"):
            inventory.rename_class("pear", new)
    with pytest.raises(ConfigError, match="has this name already"):
        inventory.rename_class("pear", "pear")
    with pytest.raises(DataError, match="not valid Unicode"):
        inventory.rename_class("pear", "\ud800")


def test_an_interrupted_change_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = copied(tmp_path)
    monkeypatch.setattr(class_changes, "_BLOCK", 2)
    put, calls = shop.gallery.store.put_items, []

    def interrupted(items) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        put(items)

    monkeypatch.setattr(shop.gallery.store, "put_items", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shop.inventory.rename_class("pear", "quince")
    shop = Catalogue(shop.folder)
    assert {"pear", "quince"} <= set(names(shop))
    (finding,) = [each for each in shop.upkeep.examine() if each.kind == "error"]
    assert "'pear' the name 'quince' was interrupted" in finding.what
    with pytest.raises(CatalogueError, match="was interrupted"):
        shop.upkeep.forget(["quince"])
    shop.inventory.rename_class("apple", "melon")
    assert set(names(shop)) == {"melon", "quince"}
    assert not [each for each in shop.upkeep.examine() if each.kind == "error"]


def test_names_are_translated_for_generations_before_the_change(tmp_path: Path) -> None:
    changed = ClassNames(tmp_path / "class_names.json")
    assert changed.changes == ()
    for change in (NameChange("a", "b", 1), NameChange("b", "c", 2), NameChange("x", "a", 3)):
        changed.begin(change)
    assert changed.unfinished == NameChange("a", "b", 1)
    changed.finish()
    again = ClassNames(tmp_path / "class_names.json")
    assert again.unfinished is None
    assert again.current(("a", "b", "x", "y"), 0) == ("c", "c", "a", "y")
    assert again.current(("a", "b", "x", "y"), 1) == ("a", "c", "a", "y")
    assert again.current(("a", "b", "x", "y"), 2) == ("a", "b", "a", "y")
    assert again.current(("a", "b", "x", "y"), 3) == ("a", "b", "x", "y")
    assert again.current(("a", "b", "x", "y"), 0, applied=2) == ("a", "b", "a", "y")
    assert json.loads((tmp_path / "class_names.json").read_text())[0]["done"] is True
