"""A catalogue that learns in closed form moves its gallery to the next generation without reading an image."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from scrubjay.backfill import Limits
from scrubjay.catalogue import Catalogue
from scrubjay.generations.bridge_paths import space_of
from scrubjay.types import Sample
from scrubjay.workspace.options import CatalogueOptions
from shops import OPTIONS, images
from tiny import NETWORK, Call

CLOSED_FORM = CatalogueOptions(
    images=OPTIONS.images,
    network=NETWORK.model_copy(update={"features": "stages"}),
    training=OPTIONS.training,
    gate=OPTIONS.gate,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 items by g0, which learned apples and pears; g1, which learned figs as well, answers."""
    root = tmp_path_factory.mktemp("made")
    images(root / "spring", "apple", "pear")
    images(root / "summer", "fig")
    shop = Catalogue.init(root / "shop", CLOSED_FORM)
    shop.learn(root / "spring", "slda")
    shop.add([root / "spring" / "train"])
    shop.learn(root / "summer", "slda")
    shop.promote("g1", force=True)
    return root


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> Catalogue:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Catalogue(tmp_path / "shop")


def test_the_plan_says_what_needs_no_image(shop: Catalogue) -> None:
    plan = shop.plan()
    assert (len(plan.ids), plan.from_features, plan.spaces) == (10, 10, {"g0": 10})
    assert plan.lines()[0].endswith("s: 10 from stored features, 0 from their images.")
    features = shop.gallery.store.features
    (era,) = features.codecs()
    features.remove(era, plan.ids[:4])
    again = shop.plan()
    assert again.from_features == 6
    assert (again.seconds[[again.ids.index(name) for name in plan.ids[:4]]] > 0).all()


def test_a_gallery_moves_although_its_images_are_gone(shop: Catalogue, made: Path, call: Call) -> None:
    items = list(shop.gallery.store.items())
    shutil.move(made / "spring", made / "away")
    try:
        code, out, err = call("backfill", str(shop.folder))
    finally:
        shutil.move(made / "away", made / "spring")
    assert (code, err) == (0, "")
    assert "embedded 10 items in " in out
    assert ": 10 from stored features, 0 from their images." in out
    assert "complete and audited" in out
    store, generation = shop.gallery.store, shop.lineage.get("g1")
    names, vectors = store.vectors(space_of(generation).id, [item.id for item in items])
    assert len(names) == 10
    from_images = shop.workspace.embed(generation, [Sample(Path(item.uri), 0) for item in items]).vectors
    np.testing.assert_allclose(np.vecdot(vectors, from_images), 1, atol=1e-5)
    assert not [each for each in Catalogue(shop.folder).upkeep.examine() if each.kind == "error"]


def test_images_that_are_added_later_have_features_as_well(shop: Catalogue, tmp_path: Path) -> None:
    assert shop.backfill(Limits(items=5)).from_features == 5
    assert shop.add([tmp_path / "summer" / "train"]).items == 5
    assert len(shop.gallery.store.features.codecs()) == 1
    assert shop.backfill().from_features == 5
    shop.rollback()
    assert shop.backfill().from_features == 5
    assert shop.gallery.counts() == {"g0": 15, "g1": 15}
    assert shop.upkeep.examine() == []
