"""Two catalogues become one that knows, finds and is judged by what both had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scrubjay.catalogue import Catalogue
from scrubjay.errors import CatalogueError, SpaceError
from scrubjay.gallery.items import image_problem
from scrubjay.gallery.transfer import digest
from scrubjay.inventory.sent_images import SentImage
from scrubjay.learning import successor
from scrubjay.types import Sample
from shops import METRIC, SETTINGS, copied, images, metric_shop
from tiny import paint


@pytest.fixture
def first(tmp_path: Path) -> Catalogue:
    return metric_shop(tmp_path / "first")


@pytest.fixture
def second(tmp_path: Path) -> Catalogue:
    """Medlars and roses, and pears: of these, two images are also in the first catalogue."""
    root = images(tmp_path / "autumn", "medlar", "rose")
    for seed in (0, 1, 30, 31, 32):
        paint(root / "train/pear" / f"{seed}.png", sum(b"pear") % 13, seed)
    shop = Catalogue.init(tmp_path / "second", METRIC)
    shop.learn(root, settings=SETTINGS)
    shop.add([root / "train"])
    return shop


def test_the_merged_catalogue_is_as_if_all_had_been_learned_in_one(
    first: Catalogue, second: Catalogue, tmp_path: Path
) -> None:
    before = [digest(each.gallery.store) for each in (first, second)]
    merged = first.upkeep.merge(second.workspace, tmp_path / "both")
    assert (merged.generation, merged.classes, merged.shared) == ("g2", 7, ("pear",))
    assert (merged.items, merged.repeated, merged.left_out) == (13, 2, 0)
    both = Catalogue(tmp_path / "both")
    assert [digest(each.gallery.store) for each in (first, second)] == before

    first.learn(tmp_path / "autumn", settings=SETTINGS)
    g2 = first.lineage.get("g2")
    assert both.lineage.get("g2").classes == g2.classes
    one, other = both.lineage.statistics.total(both.lineage.get("g2")), first.lineage.statistics.total(g2)
    assert one is not None
    assert other is not None
    assert one.counts.tolist() == other.counts.tolist()
    np.testing.assert_allclose(one.means, other.means, rtol=1e-4, atol=1e-6)
    samples = [Sample(path, 0) for path in sorted(tmp_path.glob("*/*/train/*/*.png"))]
    vectors = both.workspace.embed(both.lineage.get("g2"), samples).vectors
    expected = first.workspace.embed(g2, samples).vectors
    assert np.abs(vectors @ vectors.T - expected @ expected.T).max() < 1e-4


def test_what_both_held_is_found_and_judged(first: Catalogue, second: Catalogue, tmp_path: Path) -> None:
    first.upkeep.merge(second.workspace, tmp_path / "both")
    both = Catalogue(tmp_path / "both")
    assert both.serving.read().generation == "g2"
    for path in (tmp_path / "autumn/train").glob("*/*.png"):
        path.unlink()  # their features are copied
    query = tmp_path / "autumn/test/rose/100.png"
    assert len(both.search(query, 100)) == 28, "the items of the first one, at once"
    assert both.backfill().complete
    assert {hit.label for hit in both.search(query, 3)} == {"rose"}
    assert len(both.search(query, 100)) == 41
    labels = [probe.label for probe in both.workspace.probe_set.probes(["g0", "g1", "g2"])]
    assert {label: labels.count(label) for label in ("apple", "fig", "rose", "medlar")} == dict.fromkeys(
        ("apple", "fig", "rose", "medlar"), 3
    )
    assert not [finding for finding in both.upkeep.examine() if finding.kind == "error"]
    assert both.upkeep.forget(["rose"]).counts["probe images"] == 3
    assert both.rollback("g1").generation == "g1"


def test_other_trunks_and_methods_are_refused(first: Catalogue, tmp_path: Path) -> None:
    images(tmp_path / "autumn", "medlar", "rose")
    larger = METRIC.images.model_copy(update={"size": 40, "resize": 44})
    other = Catalogue.init(tmp_path / "other", METRIC.model_copy(update={"images": larger}))
    with pytest.raises(CatalogueError, match="nothing was learned yet"):
        first.upkeep.merge(other.workspace, tmp_path / "both")
    other.learn(tmp_path / "autumn", settings=SETTINGS)
    with pytest.raises(SpaceError, match=r"shop \(test_resnet, 32 px.*other \(test_resnet, 40 px.*different trunks"):
        first.upkeep.merge(other.workspace, tmp_path / "both")
    trained = copied(tmp_path / "trained")
    with pytest.raises(CatalogueError, match="g0 was learned with 'l2', not in closed form"):
        first.upkeep.merge(trained.workspace, tmp_path / "both")
    with pytest.raises(CatalogueError, match="other: is in use"):
        first.upkeep.merge(other.workspace, tmp_path / "other")
    assert not (tmp_path / "both").exists()


def test_an_interrupted_merge_leaves_nothing_and_can_be_repeated(
    first: Catalogue, second: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(successor, "identity_bridges", killed)
        with pytest.raises(KeyboardInterrupt):
            first.upkeep.merge(second.workspace, tmp_path / "both")
    assert not (tmp_path / "both").exists()
    (tmp_path / ".both.merging").mkdir()
    (tmp_path / ".both.merging" / "catalogue.json").write_text("left by a kill")
    assert first.upkeep.merge(second.workspace, tmp_path / "both").classes == 7
    assert not list(tmp_path.glob(".both*"))


def test_images_that_were_sent_move_with_their_items(first: Catalogue, second: Catalogue, tmp_path: Path) -> None:
    for number, shop in enumerate((first, second)):
        path = paint(tmp_path / f"sent{number}.png", 7, 900 + number)
        (item,) = shop.inventory.add_images([SentImage("a", path.read_bytes())], "pear").items
        assert Path(item.uri).is_relative_to(shop.folder)
    first.upkeep.merge(second.workspace, tmp_path / "both")
    both = Catalogue(tmp_path / "both")
    items = [item for item in both.gallery.store.items() if "/images/" in item.uri]
    assert len(items) == 2
    assert all(Path(item.uri).is_relative_to(both.folder) and image_problem(item) is None for item in items)
