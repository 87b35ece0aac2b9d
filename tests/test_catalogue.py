from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from scrubjay.catalogue import Catalogue
from scrubjay.errors import CatalogueError, CheckpointError, ConfigError, DataError, ImageError, SpaceError
from scrubjay.experiments.run import ExperimentOptions, run
from scrubjay.io.locking import locked
from scrubjay.models.embedding import Encoder
from scrubjay.stores import Item
from scrubjay.types import Sample
from scrubjay.workspace.options import CatalogueOptions
from tiny import IMAGES, NETWORK, TRAINING, paint, tree

OPTIONS = CatalogueOptions(images=IMAGES, network=NETWORK, training=TRAINING)


def photos(root: Path, *names: str, each: int = 4) -> Path:
    for name in names:
        for number in range(each):
            paint(root / name / f"{number}.png", sum(name.encode()) % 13, number)
    return root


@pytest.fixture
def spring(tmp_path: Path) -> Path:
    return photos(tmp_path / "spring", "apple", "pear")


@pytest.fixture
def shop(tmp_path: Path, spring: Path) -> Catalogue:
    """A catalogue that has learned apples and pears; its gallery is empty."""
    shop = Catalogue.init(tmp_path / "shop", OPTIONS)
    assert shop.learn(spring).name == "g0"
    return shop


def uris(shop: Catalogue) -> dict[str, str | None]:
    return {item.uri: item.label for item in shop.gallery.store.items()}


def test_a_gallery_is_searchable_at_every_moment_of_its_life(shop: Catalogue, spring: Path, tmp_path: Path) -> None:
    query = spring / "apple" / "0.png"
    assert shop.add([spring]).items == 8
    kept = tmp_path / "kept.png"
    shutil.copy(query, kept)
    shutil.rmtree(spring)
    summer = photos(tmp_path / "summer", "fig")
    assert shop.learn(summer, "l2").classes == ("apple", "pear", "fig")
    (best, *_) = shop.search(kept)
    assert (best.generation, best.label, best.uri) == ("g0", "apple", str(query))

    assert shop.add([summer]).items == 4
    assert shop.gallery.counts() == {"g0": 12}, "what was only learned embeds nothing yet"
    shop.promote("g1", force=True)
    hits = shop.search(summer / "fig/1.png", 20)
    assert len(hits) == 12
    assert {hit.generation for hit in hits} == {"g0"}, "no item is lost, every one is found over a bridge"

    autumn = photos(tmp_path / "autumn", "fig", each=6)
    assert shop.add([autumn]).items == 6
    assert shop.gallery.counts() == {"g0": 12, "g1": 6}
    hits = Catalogue(shop.folder).search(autumn / "fig/5.png", 20)
    assert len(hits) == 14
    assert (hits[0].uri, hits[0].generation) == (str(autumn / "fig/5.png"), "g1")
    assert {hit.generation for hit in hits} == {"g0", "g1"}

    done = shop.backfill()
    assert (done.done, len(done.skipped), done.missing, done.complete) == (0, 8, 8, True)
    photos(spring, "apple", "pear")
    done = shop.backfill()
    assert (done.done, done.skipped, done.missing, done.complete) == (8, (), 0, True)
    assert {hit.generation for hit in shop.search(kept, 20)} == {"g1"}
    assert shop.rollback().generation == "g0"
    hits = shop.search(autumn / "fig/5.png", 20)
    assert len(hits) == 14
    assert {hit.generation for hit in hits} == {"g0", "g1"}, "what g0 never saw is found over the bridge to g1"


def test_scores_are_cosines_of_what_the_generation_embeds(shop: Catalogue, spring: Path) -> None:
    shop.add([spring])
    samples = [Sample(spring / name / f"{number}.png", 0) for name in ("apple", "pear") for number in range(4)]
    vectors = Encoder(shop.lineage.network(shop.lineage.get("g0")).embedder, IMAGES).embed(samples).vectors
    cosines = vectors @ vectors[2]
    hits = shop.search(samples[2].path, 8)
    expected = {str(sample.path): score for sample, score in zip(samples, cosines.tolist(), strict=True)}
    assert {hit.uri: hit.score for hit in hits} == pytest.approx(expected, abs=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_the_same_image_twice_is_one_item_that_keeps_its_label(shop: Catalogue, spring: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    shutil.copy(spring / "apple/0.png", copy)
    assert shop.add([spring, spring, copy]).items == 8
    assert uris(shop)[str(copy)] == "apple"
    assert str(spring / "apple/0.png") not in uris(shop)
    shutil.move(spring, tmp_path / "moved")
    shop.add([tmp_path / "moved"])
    assert sorted(uris(shop)) == sorted(map(str, (tmp_path / "moved").glob("*/*.png")))
    (tmp_path / "moved/apple").rename(tmp_path / "moved/crab apple")
    shop.add([tmp_path / "moved"])
    assert sorted(map(str, uris(shop).values())) == ["crab apple"] * 4 + ["pear"] * 4
    assert shop.gallery.counts() == {"g0": 8}


def test_labels_removal_and_single_files(shop: Catalogue, spring: Path, tmp_path: Path) -> None:
    query = spring / "apple/0.png"
    shop.add([spring / "pear/0.png"])
    assert uris(shop) == {str(spring / "pear/0.png"): None}
    shop.add([spring])
    assert {hit.label for hit in shop.search(query, 20, ["pear"])} == {"pear"}
    assert shop.search(query, 20, ["no such"]) == []
    first = shop.search(query, 1)[0]
    assert shop.remove([first.id, "no such"]) == 1
    assert first.id not in {hit.id for hit in shop.search(query, 20)}
    assert shop.remove([hit.id for hit in shop.search(query, 20)]) == 7
    with pytest.raises(CatalogueError, match="empty"):
        shop.search(query)
    assert shop.add([]).items == 0
    assert shop.add([spring]).items == 8


def test_tables_and_boxes(shop: Catalogue, spring: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = ["spring/apple/0.png,russet,,,,", "spring/apple/0.png,leaf,0,0,20,20", "spring/gone.png,russet,,,,"]
    table.write_text("\n".join(["path,label,x_1,y_1,x_2,y_2", *rows]))
    added = shop.add([table])
    assert added.items == 2
    assert [path for path, _ in added.failures] == [str(tmp_path / "spring/gone.png")]
    assert sorted(str(item.label) for item in shop.gallery.store.items()) == ["leaf", "russet"]
    table.write_text(
        "path,label\n" + "".join(f"spring/{name}/{n}.png,new {name}\n" for name in ("apple", "pear") for n in range(4))
    )
    assert shop.learn(table).classes == ("apple", "pear", "new apple", "new pear")


def test_what_cannot_be_decoded_is_named_and_the_rest_is_added(shop: Catalogue, spring: Path, tmp_path: Path) -> None:
    broken = spring / "apple" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff")
    dangling = spring / "apple" / "dangling.png"
    dangling.symlink_to(tmp_path / "nowhere")
    added = shop.add([spring])
    assert added.items == 8
    assert {path for path, _ in added.failures} == {str(broken), str(dangling)}
    other = tmp_path / "other.jpg"
    other.write_bytes(b"no image")
    for selection in ([broken], [broken, other]):
        added = shop.add(selection)
        assert added.items == 0
        assert [path for path, _ in added.failures] == list(map(str, selection))
    assert shop.gallery.count() == 8
    with pytest.raises(DataError, match=r"gone: no such file or folder"):
        shop.add([spring, tmp_path / "gone"])


def test_strict_catalogues_stop_at_a_broken_image(tmp_path: Path, spring: Path) -> None:
    options = OPTIONS.model_copy(update={"images": IMAGES.model_copy(update={"on_error": "raise"})})
    shop = Catalogue.init(tmp_path / "strict", options)
    shop.learn(spring)
    (spring / "pear/broken.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        shop.add([spring])
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        shop.add([spring / "pear/broken.jpg"])


def test_held_out_images_that_are_broken_cost_no_learning(shop: Catalogue, tmp_path: Path) -> None:
    root = photos(tmp_path / "summer" / "train", "fig").parent
    (root / "test" / "fig").mkdir(parents=True)
    (root / "test/fig/broken.png").write_bytes(b"no image")
    generation = Catalogue(shop.folder).learn(root)
    assert generation.info.measured == {"new": None, "new_before": None}
    assert [path for path, _ in generation.info.broken] == [str(root / "test/fig/broken.png")]


def test_adding_that_was_cut_short_is_completed_by_the_same_call(shop: Catalogue, spring: Path, tmp_path: Path) -> None:
    summer = photos(tmp_path / "summer", "fig")
    shop.add([spring])
    shop.learn(summer)
    before = {item.id for item in shop.gallery.store.items()}
    shop.add([summer])
    late = next(item for item in shop.gallery.store.items() if item.id not in before)
    shop.remove([late.id])
    shop.gallery.store.put_items([Item(late.id, late.uri, late.content_hash, late.label)])  # all that a kill left
    assert shop.answer(spring / "apple/0.png").unembedded == 1
    assert late.id not in {hit.id for hit in shop.search(spring / "apple/0.png", 20)}
    assert any("1 items have no vector" in finding.what for finding in shop.upkeep.examine())
    assert shop.add([summer]).items == 4
    assert shop.gallery.counts() == {"g0": 12}
    assert shop.answer(spring / "apple/0.png").unembedded == 0


def test_vectors_of_changed_preprocessing_are_refused(shop: Catalogue, spring: Path) -> None:
    shop.add([spring])
    path = shop.folder / "catalogue.json"
    options = json.loads(path.read_text())
    options["images"]["size"] = 24
    path.write_text(json.dumps(options))
    changed = Catalogue(shop.folder)
    with pytest.raises(SpaceError, match=r"g0.*images\.size"):
        changed.search(spring / "apple/0.png")
    changed.remove([next(changed.gallery.store.items()).id])
    with pytest.raises(SpaceError, match="g0"):
        changed.add([spring])
    assert changed.gallery.count() == 7


def test_a_damaged_new_generation_leaves_the_old_one_answering(shop: Catalogue, spring: Path, tmp_path: Path) -> None:
    shop.add([spring])
    summer = photos(tmp_path / "summer", "fig")
    weights = shop.learn(summer).folder / "network.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    again = Catalogue(shop.folder)
    with pytest.raises(CheckpointError, match=r"g1/network\.safetensors"):
        again.promote("g1", force=True)
    assert again.serving.read().generation == "g0"
    assert again.search(spring / "apple/0.png", 1)[0].generation == "g0"
    assert again.add([summer]).items == 4
    (finding,) = (each for each in again.upkeep.examine() if each.kind == "error")
    assert "g1/network.safetensors" in finding.what


def test_one_writer_at_a_time_and_readers_at_any(shop: Catalogue, spring: Path) -> None:
    shop.add([spring])
    with locked(shop.folder):
        for work in (lambda: shop.add([spring]), lambda: shop.learn(spring), lambda: shop.remove(["x"])):
            with pytest.raises(CatalogueError, match="another process"):
                work()
        assert len(shop.search(spring / "apple/0.png", 3)) == 3
    assert shop.add([spring]).items == 8


def test_a_catalogue_moves_to_a_folder_of_any_name(shop: Catalogue, spring: Path, tmp_path: Path) -> None:
    shop.add([spring])
    moved = tmp_path / "my shop #1 & 100% größer"
    shop.folder.rename(moved)
    again = Catalogue(moved)
    assert len(again.search(spring / "apple/0.png", 20)) == 8
    assert again.learn(photos(tmp_path / "summer", "fig")).name == "g1"
    assert again.add([tmp_path / "summer"]).items == 4


def test_what_other_generations_left_of_interrupted_work_goes(shop: Catalogue, tmp_path: Path) -> None:
    (shop.folder / "session-g0.safetensors").write_bytes(b"of a generation that is made")
    assert shop.interrupted()
    shop.learn(photos(tmp_path / "summer", "fig"))
    assert not shop.interrupted()


def test_old_images_are_never_needed(shop: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="joint"):
        shop.learn(photos(tmp_path / "summer", "fig"), "joint")
    assert shop.lineage.newest == shop.lineage.get("g0")


def test_the_method_stays_what_it_was_unless_another_is_named(spring: Path, tmp_path: Path) -> None:
    frozen = OPTIONS.network.model_copy(update={"frozen": "layer1"})
    shop = Catalogue.init(tmp_path / "shop", OPTIONS.model_copy(update={"network": frozen}))
    used = [shop.learn(spring).info.method["name"]]
    for index, asked in enumerate((None, "mmd", None)):
        generation = shop.learn(photos(tmp_path / f"season{index}", f"fig {index}"), asked)
        used.append(generation.info.method["name"])
    assert used == ["moments", "moments", "mmd", "mmd"]
    with pytest.raises(
        ConfigError, match=r"'moments' protects only what was learned with it.*with 'mmd': go on with 'mmd'"
    ):
        shop.learn(photos(tmp_path / "winter", "medlar"), "moments")
    assert shop.lineage.newest == shop.lineage.get("g3")


def test_a_network_that_is_trained_as_a_whole_starts_with_mmd(shop: Catalogue) -> None:
    assert shop.lineage.get("g0").info.method["name"] == "mmd"


def test_a_catalogue_starts_with_what_a_run_learned(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree", 3)
    recipe = {
        "source": {"name": "folder", "root": str(root)},
        "stream": {"initial": 2, "step": 1},
        **{
            name: part.model_dump() for name, part in (("images", IMAGES), ("network", NETWORK), ("training", TRAINING))
        },
    }
    out = tmp_path / "run"
    run(ExperimentOptions.parse(recipe), out)
    shop = Catalogue.init(tmp_path / "shop", OPTIONS, out)
    assert [each.name for each in shop.lineage.generations()] == ["g0", "g1"]
    assert shop.add([root]).items == 21
    assert shop.search(root / "test/class0/0.png", 1)[0].generation == "g1"
    shutil.rmtree(out)
    assert shop.learn(photos(tmp_path / "summer", "fig")).name == "g2"
    assert len(Catalogue(shop.folder).search(root / "test/class0/0.png")) == 10


def test_generations_of_another_network_or_preprocessing_are_not_taken_over(shop: Catalogue, tmp_path: Path) -> None:
    network, images = NETWORK.model_copy(update={"dim": 4}), IMAGES.model_copy(update={"size": 24})
    for change in ({"network": network}, {"images": images}):
        with pytest.raises(ConfigError, match="do not set network or images"):
            Catalogue.init(tmp_path / "other", OPTIONS.model_copy(update=change), shop.folder)
    with pytest.raises(CatalogueError, match="no finished run"):
        Catalogue.init(tmp_path / "other", OPTIONS, tmp_path / "spring")
    assert not (tmp_path / "other").exists()
