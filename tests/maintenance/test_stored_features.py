"""Stored features that are damaged, wrong, stale, missing or of no generation are found and repaired."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from scrubjay.catalogue import Catalogue
from scrubjay.generations.generation import Generation
from scrubjay.maintenance.doctor import Finding
from scrubjay.maintenance.features import era_of, unused_eras
from scrubjay.stores import FeatureCodec, Item
from scrubjay.workspace.options import CatalogueOptions
from shops import OPTIONS, images
from tiny import NETWORK, Call

CLOSED_FORM = CatalogueOptions(
    images=OPTIONS.images,
    network=NETWORK.model_copy(update={"features": "stages"}),
    training=OPTIONS.training,
    gate=OPTIONS.gate,
)
FOREIGN = "f" * 32
Cured = Callable[[Finding], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue that learned apples and pears in closed form and holds 10 items, each with its features."""
    root = tmp_path_factory.mktemp("made")
    images(root / "spring", "apple", "pear")
    shop = Catalogue.init(root / "shop", CLOSED_FORM)
    shop.learn(root / "spring", "slda")
    shop.add([root / "spring" / "train"])
    return root


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> Catalogue:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    shop = Catalogue(tmp_path / "shop")
    shop.add([tmp_path / "spring" / "train"])  # the same items, where their images are now
    return shop


@pytest.fixture
def cured(call: Call, monkeypatch: pytest.MonkeyPatch) -> Cured:
    """Runs the last command that a finding names, and answers yes to questions."""

    def run(finding: Finding) -> None:
        command = re.findall(r"scrubjay [^`,&]*", finding.cure)[-1]
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
        code, out, err = call(*shlex.split(command.replace("PHOTOS", "spring/train"))[1:])
        assert code in (0, 1), f"{command}: {out}{err}"

    return run


def found(shop: Catalogue) -> list[Finding]:
    return Catalogue(shop.folder).upkeep.examine()


def ids(shop: Catalogue) -> list[str]:
    return [item.id for item in shop.gallery.store.items()]


def serving(shop: Catalogue) -> Generation:
    return shop.workspace.serving_generation()


def era(shop: Catalogue) -> str:
    name = era_of(shop.workspace, serving(shop))
    assert name is not None
    return name


def change_rows(shop: Catalogue, change: Callable[[np.ndarray], np.ndarray], names: list[str]) -> None:
    """Change stored codes directly, bypassing all checks."""
    database = lancedb.connect(shop.folder / "gallery")
    (name,) = (name for name in database.list_tables().tables if name.startswith("features-"))
    table = database.open_table(name)
    rows = table.search().where("id IN (" + ", ".join(f"'{each}'" for each in names) + ")").to_arrow()
    table.delete("id IN (" + ", ".join(f"'{each}'" for each in names) + ")")
    codes = change(np.stack([np.asarray(row, np.float16) for row in rows["vector"].to_pylist()]))
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(codes.astype(np.float16).ravel()), codes.shape[1])
    table.add(pa.table([rows["id"], rows["content_hash"], vectors], schema=table.schema))


def test_a_catalogue_in_closed_form_is_sound(shop: Catalogue) -> None:
    assert found(shop) == []
    assert list(shop.gallery.store.features.codecs()) == [era(shop)]
    assert shop.gallery.store.features.missing(era(shop)) == []
    assert not shop.upkeep.prunable()


def test_no_features_are_kept_of_other_methods_and_on_request(made: Path, tmp_path: Path) -> None:
    for number, (method, encoding) in enumerate((("l2", "float16"), ("slda", "none"))):
        options = CLOSED_FORM.model_copy(update={"gallery_features": encoding})
        shop = Catalogue.init(tmp_path / f"{number}", options)
        shop.learn(made / "spring", method)
        shop.add([made / "spring" / "train"])
        assert shop.gallery.store.features.codecs() == {}
        assert found(shop) == []


def test_features_of_a_trunk_that_no_generation_has(shop: Catalogue, cured: Cured) -> None:
    features = shop.gallery.store.features
    features.create(FOREIGN, FeatureCodec.float16(3))
    features.put(FOREIGN, ids(shop)[:4], np.ones((4, 3)))
    (finding,) = found(shop)
    assert (finding.kind, finding.what) == (
        "note",
        f"features of 4 items are of era {FOREIGN}, which no generation uses",
    )
    assert shop.upkeep.prunable().eras == ((FOREIGN, 4),)
    cured(finding)
    assert found(shop) == []
    assert list(features.codecs()) == [era(shop)]


def test_features_that_are_no_longer_kept_can_be_deleted(shop: Catalogue, cured: Cured) -> None:
    path = shop.folder / "catalogue.json"
    values = json.loads(path.read_text())
    assert values["gallery_features"] == "float16"
    path.write_text(json.dumps({**values, "gallery_features": "none"}))
    (finding,) = found(shop)
    assert finding.what == f"features of 10 items are of era {era(shop)}, which no generation uses"
    cured(finding)
    assert found(shop) == []
    assert shop.gallery.store.features.codecs() == {}


def test_an_era_is_kept_while_a_generation_is_unreadable(shop: Catalogue) -> None:
    shop.gallery.store.features.create(FOREIGN, FeatureCodec.float16(3))
    network = serving(shop).folder / "network.safetensors"
    network.write_bytes(network.read_bytes()[:100])
    again = Catalogue(shop.folder)
    assert era_of(again.workspace, serving(again)) is None
    assert unused_eras(again.workspace, again.lineage.generations()) == []
    assert not again.upkeep.prunable()


def test_features_that_are_not_finite(shop: Catalogue, cured: Cured) -> None:
    names = ids(shop)[:2]
    change_rows(shop, lambda codes: np.full_like(codes, np.inf), names)
    finding = next(each for each in found(shop) if "not finite" in each.what)
    assert (finding.kind, finding.what.startswith("the features of 2 items are not finite")) == ("error", True)
    cured(finding)
    (finding,) = found(shop)
    assert finding.what == "2 of 10 items have no features: a backfill reads their images"
    cured(finding)
    assert found(shop) == []


def test_features_of_other_images(shop: Catalogue, cured: Cured) -> None:
    change_rows(shop, lambda codes: np.roll(codes, 7, axis=1), ids(shop)[3:6])
    (finding,) = found(shop)
    assert finding.kind == "error"
    assert finding.what.startswith("the features of 3 of 10 items in a sample give other vectors than g0")
    cured(finding)
    (finding,) = found(shop)
    assert "3 of 10 items have no features" in finding.what


def test_features_of_no_item_and_of_an_older_image(shop: Catalogue, cured: Cured) -> None:
    store, name = shop.gallery.store, ids(shop)[0]
    other = FeatureCodec.float16(store.features.codec(era(shop)).dim)
    store.put_items([Item("nobody", "nowhere", "nothing")])
    store.features.put(era(shop), ["nobody"], np.ones((1, other.dim)))
    database = lancedb.connect(shop.folder / "gallery")
    database.open_table("items").delete("id = 'nobody'")
    (item,) = store.items([name])
    store.put_items([Item(item.id, item.uri, "older", item.label, item.metadata)])
    finding = next(each for each in found(shop) if "nothing reads them" in each.what)
    assert (finding.kind, finding.what) == ("note", "features 1 of an older image, 1 of no item; nothing reads them")
    cured(finding)
    assert not [each for each in found(shop) if "nothing reads them" in each.what]
