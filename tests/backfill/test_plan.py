from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import killing
from scrubjay.backfill import Limits
from scrubjay.catalogue import Catalogue
from scrubjay.errors import CatalogueError, ConfigError


@pytest.fixture
def shop(small_shop: Path, tmp_path: Path) -> Catalogue:
    """16 items by g0; g1 answers."""
    shop = Catalogue(killing.fresh(small_shop, tmp_path / "work") / "shop")
    shop.promote("g1", force=True)
    return shop


@pytest.mark.parametrize("order", ["gain", "uncertainty", "label", "random"])
def test_a_plan_lists_every_item_once_and_changes_nothing(shop: Catalogue, order: str) -> None:
    before = shop.gallery.counts()
    plan = shop.plan(order)
    assert sorted(plan.ids) == sorted(item.id for item in shop.gallery.store.items())
    assert plan.spaces == {"g0": 16}
    assert (plan.seconds > 0).all()
    assert plan.from_features == 0
    assert len(plan.gains) == 16
    assert (plan.gains[:-1] >= plan.gains[1:]).all() == (order == "gain") or order != "gain"
    assert shop.gallery.counts() == before
    assert any("16 items to embed with g1" in line for line in plan.lines())


def test_items_without_any_vector_come_first(shop: Catalogue) -> None:
    (space,) = shop.gallery.store.spaces()
    names = [item.id for item in shop.gallery.store.items()][3:5]
    shop.gallery.store.drop_embeddings(space.id, names)
    plan = shop.plan()
    assert set(plan.ids[:2]) == set(names)
    assert plan.spaces == {"g0": 14, "nothing": 2}
    assert shop.backfill(Limits(items=2)).done == 2
    assert shop.gallery.unembedded() == 0


def test_classes_come_one_after_the_other_by_label(shop: Catalogue) -> None:
    labels = {item.id: item.label for item in shop.gallery.store.items()}
    assert [labels[name] for name in shop.plan("label").ids] == ["apple"] * 8 + ["pear"] * 8


def test_items_that_queries_find_are_counted(shop: Catalogue) -> None:
    last = shop.plan().ids[-1]
    (item,) = shop.gallery.store.items([last])
    for _ in range(3):
        shop.search(Path(item.uri), 1)
    counts = shop._searcher.query_log.counts()
    (found,) = counts
    before, after = shop.plan().gains, shop.plan().ids.index(found)
    assert counts[found] == 3
    assert before[after] > 0


def test_an_unknown_order_is_refused(shop: Catalogue) -> None:
    with pytest.raises(ConfigError, match="order 'best' is unknown; known are: gain, uncertainty, label, random"):
        shop.plan("best")


def test_the_recall_is_measured_at_every_fourth_batch(shop: Catalogue) -> None:
    generation = shop.workspace.serving_generation()
    reached = shop._planner._recall_reached(generation, 0.0)
    assert [reached() for _ in range(8)] == [False, False, False, True] * 2
    never = shop._planner._recall_reached(generation, 1.01)
    assert not any(never() for _ in range(8))


def test_a_backfill_stops_at_a_recall_of_the_probe_images(shop: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrubjay.backfill.plan.CHECKED", 1)
    monkeypatch.setattr("scrubjay.backfill.limits.BATCH", 4, raising=False)
    done = shop.backfill(until_recall=0.0)
    assert done.limit in ("until", None)
    shutil.rmtree(shop.folder / "probe")
    with pytest.raises(CatalogueError, match="no probe images"):
        shop.backfill(until_recall=0.5)
