"""Nothing that is needed is pruned: searches before and after find the same."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scrubjay.backfill import Limits
from scrubjay.catalogue import Catalogue
from scrubjay.gate.probe_set import ProbeOptions
from scrubjay.generations.serving import Shadow
from scrubjay.types import Hit
from shops import OPTIONS, copied, images
from tiny import Call


@pytest.fixture
def shop(tmp_path: Path) -> Catalogue:
    return copied(tmp_path)


def searched(shop: Catalogue) -> list[list[Hit]]:
    again = Catalogue(shop.folder)
    root = shop.folder.parent
    queries = [root / "spring/test/apple/100.png", root / "summer/test/fig/100.png", root / "autumn/test/plum/100.png"]
    return [again.search(query, 50) for query in queries]


def names(shop: Catalogue) -> tuple[list[str], list[str]]:
    """Names of the generations of prunable spaces, and of prunable generations."""
    what = Catalogue(shop.folder).upkeep.prunable()
    return [space.generation for space, _ in what.spaces], [generation.name for generation, _ in what.generations]


def pruned(shop: Catalogue) -> None:
    again = Catalogue(shop.folder)
    again.upkeep.prune(again.upkeep.prunable())


def test_the_only_vectors_of_items_are_kept(shop: Catalogue) -> None:
    assert names(shop) == ([], ["g1"]), "no path of bridges uses g1; the newest is kept"
    shop.promote("g2")
    assert names(shop) == ([], ["g1"])
    shop.backfill(Limits(items=9))
    assert names(shop)[0] == []


def test_vectors_older_than_the_previous_generation_are_pruned(shop: Catalogue) -> None:
    for name in ("g1", "g2"):
        shop.promote(name)
        shop.backfill()
    assert names(shop) == (["g0"], []), "the bridges between g1 and g2 lead over g0"
    before = searched(shop)
    pruned(shop)
    assert shop.gallery.counts() == {"g1": 10, "g2": 10}
    assert searched(shop) == before
    assert Catalogue(shop.folder).rollback().generation == "g1"
    assert all(len(hits) == 10 for hits in searched(shop))
    assert not Catalogue(shop.folder).upkeep.examine()


def test_backbones_that_no_generation_uses_are_pruned(shop: Catalogue) -> None:
    shop.promote("g2")
    lineage = shop.lineage
    paths = {name: lineage.trunks.path(str(lineage.get(name).info.trunk)) for name in ("g0", "g1", "g2")}
    orphan = lineage.trunks.path("0" * 32)
    orphan.write_bytes(b"left by a kill before its generation was complete")
    assert {path for path, _ in shop.upkeep.prunable().files} == {paths["g1"], orphan}
    pruned(shop)
    assert lineage.trunks.paths() == sorted({paths["g0"], paths["g2"]})
    assert len(searched(shop)[0]) == 10


def test_classes_of_a_pruned_ancestor_are_still_judged(shop: Catalogue, tmp_path: Path) -> None:
    shop.learn(images(tmp_path / "winter", "medlar"), start="g1")
    for name in ("g1", "g3"):
        shop.promote(name)
        shop.backfill()
    assert names(shop) == (["g0"], ["g0", "g2"])
    pruned(shop)
    assert [each.name for each in shop.lineage.generations()] == ["g1", "g3"]
    again = Catalogue(shop.folder)
    assert again.learn(images(tmp_path / "spring again", "quince")).name == "g4"
    report = again.gate("g4")
    assert report.unjudged == ()
    assert report.groups["old"].queries == 6, "of apples and pears, which the gallery holds"
    assert not again.upkeep.examine()


def test_probe_embeddings_of_a_pruned_generation_still_judge(tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"probe": ProbeOptions(keep="embeddings", crops=2)})
    shop = Catalogue.init(tmp_path / "shop", options)
    shop.learn(images(tmp_path / "spring", "apple", "pear"), "l2")
    shop.add([tmp_path / "spring/train"])
    for number, season in enumerate(("summer", "autumn"), 1):
        shop.learn(images(tmp_path / season, season))
        shop.promote(f"g{number}")
        shop.backfill()
    before = searched_for(shop, tmp_path)
    pruned(shop)
    assert [each.name for each in shop.lineage.generations()] == ["g1", "g2"]
    again = Catalogue(shop.folder)
    assert searched_for(again, tmp_path) == before
    assert again.add([tmp_path / "summer/train"]).items == 5
    assert again.gate("g1").groups["old"].queries == 9, "an image counts once, whatever the number of its crops"
    assert again.rollback().generation == "g1"
    assert len(searched_for(shop, tmp_path)) == 15


def searched_for(shop: Catalogue, root: Path) -> list[Hit]:
    return Catalogue(shop.folder).search(root / "spring/test/apple/100.png", 50)


def test_images_are_added_after_a_rollback_to_the_oldest_generation(shop: Catalogue, tmp_path: Path) -> None:
    shop.learn(images(tmp_path / "winter", "medlar"), start="g1")
    for name in ("g1", "g3"):
        shop.promote(name)
        shop.backfill()
    pruned(shop)
    again = Catalogue(shop.folder)
    assert again.rollback().generation == "g1"
    assert again.add([tmp_path / "summer/train"]).items == 5


def test_the_shadow_generation_is_kept(shop: Catalogue) -> None:
    shop.serving.shadow(Shadow("g1", 1.0), shop.serving.read().revision)
    assert names(shop) == ([], [])


def test_nothing_is_pruned_before_a_generation_answers(shop: Catalogue) -> None:
    (shop.folder / "serving.json").unlink()
    assert not Catalogue(shop.folder).upkeep.prunable()


def test_what_is_needed_by_now_is_kept(shop: Catalogue) -> None:
    what = shop.upkeep.prunable()
    assert [generation.name for generation, _ in what.generations] == ["g1"]
    shop.promote("g1")
    shop.upkeep.prune(what)
    assert [each.name for each in shop.lineage.generations()] == ["g0", "g1", "g2"]
    shop.search(shop.folder.parent / "summer/test/fig/100.png")


@pytest.mark.parametrize("seed", range(4))
def test_searches_find_the_same_after_random_steps(shop: Catalogue, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    seasons = ["spring", "summer", "autumn"]

    def promote() -> None:
        others = [each.name for each in shop.lineage.generations() if each.name != shop.serving.read().generation]
        shop.promote(chance.choice(others), force=True)

    def remove() -> None:
        items = [item.id for item in shop.gallery.store.items()]
        shop.remove(chance.sample(items, min(2, len(items) - 1)))

    steps: list[Callable[[], object]] = [
        promote,
        promote,
        remove,
        lambda: shop.add([tmp_path / chance.choice(seasons) / "train"]),
        lambda: shop.backfill(Limits(items=chance.choice([2, 50]))),
        lambda: shop.rollback() if shop.serving.read().previous else None,
    ]
    for step in chance.choices(steps, k=7):
        step()
    before, back = searched(shop), shop.serving.read().previous
    pruned(shop)
    assert searched(shop) == before
    assert names(shop) == ([], [])
    assert not [finding for finding in Catalogue(shop.folder).upkeep.examine() if finding.kind == "error"]
    if back is not None:
        assert Catalogue(shop.folder).rollback().generation == back
        assert [len(hits) for hits in searched(shop)] == [len(hits) for hits in before]


def test_prune_asks_first(shop: Catalogue, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in ("n\n", "\n"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        code, out, err = call("prune", "shop")
        assert (code, err) == (0, "")
        assert out.startswith("generation g1: ")
        assert out.endswith("nothing was deleted.\n")
    assert len(shop.lineage.generations()) == 3
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, out, _ = call("prune", "shop")
    assert (code, out.endswith("deleted.\n")) == (0, True)
    assert [each.name for each in shop.lineage.generations()] == ["g0", "g2"]
    assert call("prune", "shop") == (0, "nothing to prune: everything is needed.\n", "")


def test_prune_yes_does_not_ask(shop: Catalogue, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert call("prune", "shop", "--yes")[0] == 0
    assert [each.name for each in shop.lineage.generations()] == ["g0", "g2"]


def test_prune_without_an_answer_deletes_nothing(shop: Catalogue, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert call("prune", "shop")[0] == 1
    assert len(shop.lineage.generations()) == 3
