"""Catalogues as older versions wrote them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scrubjay.catalogue import Catalogue
from scrubjay.errors import CatalogueError
from scrubjay.generations.bridge_paths import space_of
from scrubjay.io.locking import locked
from scrubjay.models.checkpoint import save_tensors
from scrubjay.workspace import migrations
from scrubjay.workspace.options import CatalogueOptions
from shops import copied, images

OLD_OPTIONS = ("seed", "images", "network", "training")
OLD_FACTS = (
    *("format", "name", "parent", "created", "network", "versions", "method", "seed", "fingerprint", "data_hash"),
    *("classes", "new_classes", "images", "seconds", "curves", "broken", "measured"),
)


def only(path: Path, keys: tuple[str, ...]) -> None:
    values = json.loads(path.read_text())
    path.write_text(json.dumps({key: values[key] for key in keys}))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder of a catalogue of format 1 with a line of two generations; g0 has embedded ten items."""
    shop = copied(tmp_path)
    shutil.rmtree(shop.folder / "generations" / "g2")
    for name in ("probe", "calibration", "backfill"):
        shutil.rmtree(shop.folder / name, ignore_errors=True)
    for name in ("serving.json", "queries.sqlite", "lock", "serving.lock"):
        (shop.folder / name).unlink(missing_ok=True)
    only(shop.folder / "catalogue.json", OLD_OPTIONS)
    for each in shop.lineage.generations():  # the backbone was stored with each generation
        weights = shop.lineage.network(each).state_dict()
        save_tensors(each.folder / "network.safetensors", weights, {"generation": each.name})
    shutil.rmtree(shop.folder / "generations" / "trunks")
    for generation in (shop.folder / "generations").iterdir():
        only(generation / "generation.json", OLD_FACTS)
        for name in ("bridges", "session"):
            (generation / f"{name}.safetensors").unlink(missing_ok=True)
    return shop.folder


def embed_with(folder: Path, name: str, number: int) -> None:
    """Vectors of a generation for so many of the items, put past the catalogue, as an older version left them."""
    from scrubjay.gallery.gallery import Gallery
    from scrubjay.generations.lineage import Lineage
    from scrubjay.stores import open_store

    store = Gallery(open_store(f"lancedb://{folder / 'gallery'}")).store
    space = space_of(Lineage(folder / "generations").get(name))
    store.create_space(space)
    ids = [item.id for item in store.items()][:number]
    store.put_embeddings(space, ids, np.eye(8, dtype=np.float32)[np.arange(number) % 8])


def files(folder: Path) -> Mapping[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*.json")
        if "gallery" not in path.parts
    }


@pytest.mark.parametrize(("embedded", "answers"), [(0, "g0"), (4, "g0"), (10, "g1")])
def test_the_newest_that_had_embedded_all_items_answers(old: Path, embedded: int, answers: str) -> None:
    if embedded:
        embed_with(old, "g1", embedded)
    shop = Catalogue(old)
    assert shop.serving.read().generation == answers
    assert json.loads((old / "catalogue.json").read_text())["format"] == migrations.FORMAT
    assert len(shop.search(old.parent / "spring/train/apple/0.png", 20)) == 10


def test_where_nothing_was_embedded_whole_the_newest_answers(old: Path) -> None:
    store = Catalogue(old).gallery.store
    (old / "serving.json").unlink()
    only(old / "catalogue.json", OLD_OPTIONS)
    store.drop_embeddings(store.spaces()[0].id, [next(store.items()).id])
    assert Catalogue(old).serving.read().generation == "g1"


def test_an_empty_gallery_and_an_empty_catalogue(old: Path, tmp_path: Path) -> None:
    shutil.rmtree(old / "gallery")
    assert Catalogue(old).serving.read().generation == "g1"
    shutil.rmtree(old / "generations")
    (old / "serving.json").unlink()
    only(old / "catalogue.json", OLD_OPTIONS)
    shop = Catalogue(old)
    assert shop.serving.read().generation is None
    assert shop.learn(images(tmp_path / "winter", "medlar", "quince")).name == "g0"
    assert shop.serving.read().generation == "g0"


def test_it_is_done_once(old: Path) -> None:
    first = Catalogue(old)
    before = files(old)
    assert Catalogue(old).serving.read() == first.serving.read()
    assert files(old) == before
    assert len(first.serving.read().history) == 1


def test_options_that_there_were_not_are_what_they_are_by_default(old: Path) -> None:
    options = Catalogue(old).options
    assert (options.store, options.false_match_rate, options.probe.images) == (None, 0.05, 4)
    assert options.gate.old_retention == 0.98


def test_a_probe_set_that_says_pictures_says_images(tmp_path: Path) -> None:
    folder = copied(tmp_path).folder
    index = folder / "probe" / "g0" / "index.json"
    now = json.loads(index.read_text())
    index.write_text(json.dumps({"kind": "pictures", "pictures": now["images"]}))
    options = json.loads((folder / "catalogue.json").read_text())
    options["probe"]["keep"] = "pictures"
    options["training"]["pictures_per_class"] = options["training"].pop("images_per_class")
    (folder / "catalogue.json").write_text(json.dumps({**options, "format": 2}))
    shop = Catalogue(folder)
    assert json.loads(index.read_text()) == now
    assert shop.options.probe.keep == "images"
    assert shop.options.training.images_per_class == 2


def test_an_old_catalogue_goes_on(old: Path, tmp_path: Path) -> None:
    """Its generations have no bridges, no probe images, and kept no embeddings."""
    shop = Catalogue(old)
    assert shop.add([tmp_path / "summer" / "train"]).items == 5
    assert not [finding for finding in shop.upkeep.examine() if finding.kind == "error"]
    report = shop.gate("g1")
    assert (report.passed, len(report.reasons)) == (False, 1)
    assert "no probe images" in report.reasons[0]
    assert shop.learn(images(tmp_path / "winter", "medlar")).name == "g2"
    report = shop.gate("g2")
    assert report.unjudged == ("apple", "pear")
    assert report.reasons[-1].startswith("no probe image of an old class has a match in the gallery")
    shop.promote("g2", force=True)
    hits = shop.search(tmp_path / "winter/train/medlar/0.png", 50)
    assert (len(hits), {hit.generation for hit in hits}) == (15, {"g0"})
    assert shop.backfill().complete
    assert shop.gallery.counts() == {"g0": 15, "g2": 15}
    shop.upkeep.prune(shop.upkeep.prunable())
    assert Catalogue(old).rollback().generation == "g0"


@pytest.mark.parametrize("version", [99, "2", None, 0, -1, 2.0])
def test_what_is_newer_or_no_format_is_refused_and_left_alone(old: Path, version: Any) -> None:
    values = {"format": version, **json.loads((old / "catalogue.json").read_text())}
    (old / "catalogue.json").write_text(json.dumps(values))
    before = files(old)
    refusal = f"a catalogue of format {version}; this version of scrubjay reads 1 to {migrations.FORMAT}: upgrade"
    with pytest.raises(CatalogueError, match=refusal):
        Catalogue(old)
    assert files(old) == before


def test_a_kill_between_two_writes_does_no_harm(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(migrations, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            Catalogue(old)
    assert "format" not in json.loads((old / "catalogue.json").read_text())
    embed_with(old, "g1", 10)  # what an older version may have done meanwhile changes nothing that was decided
    shop = Catalogue(old)
    assert (shop.serving.read().generation, len(shop.serving.read().history)) == ("g0", 1)


def test_two_processes_do_not_do_it_at_once(old: Path) -> None:
    with locked(old), pytest.raises(CatalogueError, match="another process"):
        Catalogue(old)
    assert not (old / "serving.json").exists()
    assert Catalogue(old).serving.read().generation == "g0"


@pytest.mark.parametrize("network", [{}, {"dim": 8}, {"features": "last"}])
def test_a_catalogue_that_names_no_features_takes_the_last_map(tmp_path: Path, network: dict[str, Any]) -> None:
    folder = copied(tmp_path).folder
    values = json.loads((folder / "catalogue.json").read_text())
    kept = {key: value for key, value in values["network"].items() if key != "features"}
    (folder / "catalogue.json").write_text(json.dumps({**values, "format": 3, "network": {**kept, **network}}))
    shop = Catalogue(folder)
    assert shop.options.network.features == "last"
    assert json.loads((folder / "catalogue.json").read_text())["network"]["features"] == "last"
    assert shop.learn(images(tmp_path / "winter", "medlar")).info.network.features == "last"


def test_new_catalogues_take_all_stages_where_no_features_are_named() -> None:
    def features(**network: Any) -> object:
        return CatalogueOptions.parse({"network": network}).network.features

    assert CatalogueOptions().network.features == features() == features(dim=8) == "stages"
    assert features(features="last") == features(pooling="max") == "last"
    assert features(features=["blocks.5"]) == ("blocks.5",)
