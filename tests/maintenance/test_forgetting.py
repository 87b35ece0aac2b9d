"""What is forgotten is gone, and what was learned is as if it had never been seen."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from scrubjay.catalogue import Catalogue
from scrubjay.data.photos import content_hash
from scrubjay.errors import CatalogueError, CheckpointError, DataError
from scrubjay.gate.probe_set import ProbeSet
from scrubjay.generations.lineage import Lineage
from scrubjay.generations.serving import ServingFile
from scrubjay.generations.statistics_folder import StatisticsFolder
from scrubjay.maintenance.sent_files import UNKNOWN, UPLOADS
from scrubjay.search.query_log import QueryLog
from scrubjay.types import Sample
from scrubjay.workspace.removal_request import RemovalRequest
from shops import METRIC, SETTINGS, copied, metric_shop


@pytest.fixture
def shop(tmp_path: Path) -> Catalogue:
    return metric_shop(tmp_path)


def embedded(shop: Catalogue) -> NDArray[np.float32]:
    """Embeddings of all training images on disk by the serving generation."""
    paths = sorted(shop.folder.parent.glob("s*/train/*/*.png"))
    return shop.workspace.embed(shop.workspace.serving_generation(), [Sample(path, 0) for path in paths]).vectors


def difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Largest difference of cosines, which no rotation of an embedding space changes."""
    return float(np.abs(one @ one.T - other @ other.T).max())


def learned_without(shop: Catalogue, root: Path, *patterns: str) -> Catalogue:
    """A catalogue that has never seen the images that match, otherwise with the same sessions."""
    for season in ("spring", "summer"):
        shutil.copytree(shop.folder.parent / season, root / season)
    for pattern in patterns:
        for path in root.glob(pattern):
            path.unlink()
    for folder in root.glob("s*/*/*"):
        if not list(folder.iterdir()):
            folder.rmdir()
    other = Catalogue.init(root / "shop", METRIC)
    for season in ("spring", "summer"):
        other.learn(root / season, settings=SETTINGS)
    other.promote("g1", force=True)
    return other


@pytest.mark.parametrize(
    ("classes", "images", "patterns"),
    [
        (["plum"], [], ["spring/*/plum/*"]),
        (["kiwi"], [], ["summer/*/kiwi/*"]),
        (["apple"], [], ["s*/*/apple/*"]),
        (
            [],
            ["spring/train/pear/3.png", "summer/train/apple/21.png"],
            ["s*/train/pear/3.png", "s*/train/apple/21.png"],
        ),
        (["fig"], ["spring/train/pear/0.png"], ["summer/*/fig/*", "spring/train/pear/0.png"]),
    ],
    ids=["of the first session", "of a later session", "of both", "images", "a class and an image"],
)
def test_what_was_learned_is_as_if_it_had_never_been_seen(
    shop: Catalogue, tmp_path: Path, classes: list[str], images: list[str], patterns: list[str]
) -> None:
    never = learned_without(shop, tmp_path / "never", *patterns)
    before = embedded(shop)
    shop.upkeep.forget(classes, [str(tmp_path / image) for image in images])
    again = Catalogue(shop.folder)
    assert again.workspace.serving_generation().classes == never.lineage.get("g1").classes
    one = again.lineage.statistics.total(again.workspace.serving_generation())
    other = never.lineage.statistics.total(never.lineage.get("g1"))
    assert one is not None
    assert other is not None
    assert one.counts.tolist() == other.counts.tolist()
    # features may differ in the last bit of half precision where the other images of a batch differ
    np.testing.assert_allclose(one.means, other.means, rtol=1e-4, atol=1e-6)
    queries = [Sample(path, 0) for path in sorted(tmp_path.glob("s*/train/*/*.png"))]
    reference = never.workspace.embed(never.lineage.get("g1"), queries).vectors
    assert difference(embedded(again), reference) < 1e-4
    assert difference(before, reference) > 1e-3, "the removed images mattered"


def test_nothing_is_left_of_a_class(shop: Catalogue, tmp_path: Path) -> None:
    figs = [content_hash(Sample(path, 0)) for path in sorted(tmp_path.glob("summer/*/fig/*.png"))]
    shop.answer(tmp_path / "summer/train/fig/0.png", 5, None, None)
    shop.answer(tmp_path / "spring/train/apple/0.png", 30, None, None)
    report = shop.upkeep.forget(["fig"])
    assert report.to_json()["removed"] == {
        "training images in the statistics": 5,
        "training images with stored features": 5,
        "items of the gallery": 5,
        "items with stored features": 5,
        "probe images": 3,
        "logged queries": 1,
        "embeddings stored with generations": 8,
    }
    assert report.generations == {"g1": "g2"}
    assert any("g1" in text and "prune" in text for text in report.remains)
    again = Catalogue(shop.folder)
    assert again.serving.read().generation == "g2"
    assert again.lineage.get("g2").classes == ("apple", "pear", "plum", "kiwi")
    store = again.gallery.store
    assert not [item for item in store.items() if item.id in figs]
    assert not [
        name
        for era in store.features.codecs()
        for ids, *_ in store.features.stored(era)
        for name in ids
        if name in figs
    ]
    assert not [
        hit for query in QueryLog(shop.folder / "queries.sqlite").recent() for hit in query.hits if hit[2] == "fig"
    ]
    assert not [probe for probe in again.workspace.probe_set.probes(["g0", "g1", "g2"]) if probe.label == "fig"]
    for session in map(again.lineage.statistics.get, ("g0", "g1")):
        assert "fig" not in session.classes
    kept = [path for path in shop.folder.rglob("*") if path.is_file() and "gallery" not in path.parts]
    for path in kept:
        content, traces = path.read_bytes(), [*(bytes.fromhex(name) for name in figs), *map(str.encode, figs), b"/fig/"]
        assert not [trace for trace in traces if trace in content], path
    hits = again.search(tmp_path / "summer/train/fig/0.png", 50)
    assert {hit.label for hit in hits} == {"apple", "pear", "plum", "kiwi"}
    assert not [finding for finding in again.upkeep.examine() if finding.kind == "error"]


def test_an_image_may_be_named_by_the_id_of_its_item(shop: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "spring/train/pear/2.png"
    name = content_hash(Sample(path, 0))
    report = shop.upkeep.forget([], [name])
    assert report.images == (name,)
    assert report.counts["items of the gallery"] == report.counts["training images in the statistics"] == 1
    with pytest.raises(DataError, match=f"nothing is stored of the image {name}"):
        shop.upkeep.forget([], [name])


def test_files_of_the_service_are_removed_too(shop: Catalogue, tmp_path: Path) -> None:
    item = next(item for item in shop.gallery.store.items() if item.label == "fig")
    uploads = shop.folder / "uploads" / "0123456789abcdef"
    removed = [
        shop.folder / "unknown" / item.id,
        uploads / "images/fig/new.png",
        uploads / "images/train/fig/new.png",
        uploads / "left_out/kiwi/the same.png",
    ]
    kept = [shop.folder / "unknown" / ("0" * 32), uploads / "images/kiwi/other.png"]
    for path in (*removed, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"another image")
    removed[-1].write_bytes(Path(item.uri).read_bytes())
    done = shop.upkeep.forget(["fig"])
    assert (done.counts[UNKNOWN], done.counts[UPLOADS]) == (1, 3)
    assert [path.exists() for path in removed] == [False] * 4
    assert [path.exists() for path in kept] == [True] * 2


def test_what_was_only_added_makes_no_generation(shop: Catalogue, tmp_path: Path) -> None:
    from tiny import photos

    shop.add([photos(tmp_path / "autumn", "medlar", "rose", each=2)])
    report = shop.upkeep.forget(["medlar"])
    assert report.generations == {}
    assert report.counts["items of the gallery"] == 2
    assert shop.serving.read().generation == "g1"


def test_a_newer_generation_that_does_not_answer_yet_is_replaced_too(shop: Catalogue, tmp_path: Path) -> None:
    from tiny import photos

    shop.learn(photos(tmp_path / "autumn", "medlar", "rose", each=4))
    report = shop.upkeep.forget(["fig"])
    assert report.generations == {"g1": "g3", "g2": "g4"}
    assert shop.serving.read().generation == "g3"
    assert shop.lineage.get("g4").classes == ("apple", "pear", "plum", "kiwi", "medlar", "rose")
    assert shop.learn(photos(tmp_path / "winter", "fig", each=4)).parent == "g4", "it can be learned again"


def test_features_that_are_not_kept_are_computed_from_given_images(tmp_path: Path) -> None:
    root = tmp_path / "template"
    metric_shop(root)
    shop = Catalogue.init(tmp_path / "shop", METRIC.model_copy(update={"keep_training_features": False}))
    for season in ("spring", "summer"):
        shop.learn(root / season, settings=SETTINGS)
    shop.promote("g1", force=True)
    before = (shop.folder / "generations/statistics/g1.safetensors").read_bytes()
    with pytest.raises(DataError, match=r"the features of 5 of 5 images to remove are not stored.*--images"):
        shop.upkeep.forget(["fig"])
    with pytest.raises(DataError, match=r"the features of 5 of 5"):
        shop.upkeep.forget(["fig"], photos=root / "spring")
    assert (shop.folder / "generations/statistics/g1.safetensors").read_bytes() == before
    assert RemovalRequest.pending(shop.folder) is None
    report = shop.upkeep.forget(["fig"], photos=root / "summer")
    assert report.counts["training images with stored features"] == 0
    never = learned_without(Catalogue(root / "shop"), tmp_path / "never", "summer/*/fig/*")
    queries = [Sample(path, 0) for path in sorted(root.glob("s*/train/*/*.png"))]
    one = shop.workspace.embed(shop.lineage.get("g2"), queries).vectors
    other = never.workspace.embed(never.lineage.get("g1"), queries).vectors
    assert difference(one, other) < 1e-3, "up to the rounding of another batch"


def test_mistakes_are_named_and_change_nothing(shop: Catalogue) -> None:
    with pytest.raises(DataError, match="nothing to forget: name a class"):
        shop.upkeep.forget()
    with pytest.raises(DataError, match=r"class 'figs' was never learned or added\. Did you mean 'fig'"):
        shop.upkeep.forget(["figs"])
    with pytest.raises(
        DataError, match=r"a metric needs two classes and these would be left: kiwi\. Learn another class"
    ):
        shop.upkeep.forget(["apple", "pear", "plum", "fig"])
    with pytest.raises(DataError, match="nothing is stored of the image nowhere"):
        shop.upkeep.forget([], ["nowhere"])
    assert RemovalRequest.pending(shop.folder) is None
    assert len(shop.lineage.generations()) == 2
    assert shop.gallery.count() == 28


def test_what_was_learned_by_training_is_refused(tmp_path: Path) -> None:
    shop = copied(tmp_path)
    with pytest.raises(CatalogueError, match=r"g0 learned apple with 'l2', which trains weights"):
        shop.upkeep.forget(["apple"])
    assert shop.gallery.count() == 10


MOMENTS: list[tuple[type, str]] = [
    (RemovalRequest, "save"),
    (StatisticsFolder, "put"),
    (ProbeSet, "remove"),
    (QueryLog, "remove"),
    (Lineage, "replace_embeddings"),
    (Lineage, "add"),
    (ServingFile, "change"),
    (RemovalRequest, "finish"),
]


@pytest.mark.parametrize(("owner", "name"), MOMENTS, ids=[f"{owner.__name__}.{name}" for owner, name in MOMENTS])
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_an_interrupted_removal_is_finished_by_the_same_call(
    shop: Catalogue, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, done: bool
) -> None:
    original: Callable[..., object] = getattr(owner, name)

    def killed(*args: object, **named: object) -> None:
        if done:
            original(*args, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, staticmethod(killed) if name == "finish" else killed)
        with pytest.raises(KeyboardInterrupt):
            shop.upkeep.forget(["apple", "fig"])
    again = Catalogue(shop.folder)
    if RemovalRequest.pending(shop.folder) is not None:
        assert any("a removal was interrupted" in finding.what for finding in again.upkeep.examine())
        with pytest.raises(
            CatalogueError, match=r"a removal was interrupted; finish it first: scrubjay forget .* apple fig"
        ):
            again.learn(shop.folder.parent / "summer")
        with pytest.raises(CatalogueError, match="another removal was interrupted"):
            again.upkeep.forget(["pear"])
    if (name, done) != ("finish", True):
        report = again.upkeep.forget(["apple", "fig"])
        assert report.counts["training images in the statistics"] == 13
        assert report.generations == {"g1": "g2"}
    assert again.workspace.serving_generation().classes == ("pear", "plum", "kiwi")
    assert [each.name for each in again.lineage.generations()] == ["g0", "g1", "g2"]
    assert RemovalRequest.pending(shop.folder) is None
    hits = again.search(shop.folder.parent / "summer/train/fig/0.png", 50)
    assert {hit.label for hit in hits} == {"pear", "plum", "kiwi"}
    assert not [finding for finding in again.upkeep.examine() if finding.kind == "error"]


def test_a_damaged_request_is_named_with_the_cure(shop: Catalogue) -> None:
    (shop.folder / "forgetting.json").write_text("{")
    with pytest.raises(
        CheckpointError, match=r"forgetting\.json: damaged .*delete it and repeat the `scrubjay forget`"
    ):
        shop.upkeep.forget(["fig"])


def test_damaged_statistics_are_found_and_unused_ones_are_pruned(shop: Catalogue) -> None:
    path = shop.lineage.statistics.path("g1")
    orphan = shop.lineage.statistics.path("g7")
    shutil.copy(path, orphan)
    assert [each for each, _ in shop.upkeep.prunable().files] == [orphan]
    shop.upkeep.prune(shop.upkeep.prunable())
    assert not orphan.exists()
    path.write_bytes(path.read_bytes()[:-9])
    (finding,) = [each for each in shop.upkeep.examine() if each.kind == "error"]
    assert "g1.safetensors: damaged" in finding.what
    with pytest.raises(CheckpointError, match=r"statistics/g1\.safetensors: damaged .*: restore it from a copy"):
        shop.upkeep.forget(["fig"])
