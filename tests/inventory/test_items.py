from __future__ import annotations

from pathlib import Path

import pytest

from scrubjay.catalogue import Catalogue
from scrubjay.errors import CatalogueError, ConfigError, DataError, NotFoundError
from scrubjay.gallery import ingest
from scrubjay.gallery.items import image_problem
from scrubjay.inventory import ingesting
from scrubjay.inventory.sent_images import SentImage
from shops import OPTIONS, copied, metric_shop
from tiny import paint


@pytest.fixture
def shop(tmp_path: Path) -> Catalogue:
    return copied(tmp_path)


def sent(path: Path) -> SentImage:
    return SentImage(path.name, path.read_bytes())


def test_pages_hold_each_item_once(shop: Catalogue) -> None:
    everything = list(shop.gallery.store.items())
    assert len(everything) == 10
    for limit in (1, 3, 10, 100):
        found, cursor = [], None
        while True:
            page = shop.inventory.items(cursor, limit)
            found += page.items
            cursor = page.cursor
            if cursor is None:
                break
            assert len(page.items) == limit
        assert found == everything
    assert {item.label for item in shop.inventory.items(labels=["pear"]).items} == {"pear"}
    assert shop.inventory.items(where={"colour": "red"}).items == ()
    with pytest.raises(ConfigError, match="limit = 0"):
        shop.inventory.items(limit=0)


def test_an_item_is_changed(shop: Catalogue) -> None:
    first, second = shop.inventory.items(limit=2).items
    assert shop.inventory.change_item(first.id, label="quince").label == "quince"
    changed = shop.inventory.change_item(first.id, metadata={"price": 2})
    assert (changed.label, changed.metadata) == ("quince", {"price": 2})
    assert shop.inventory.item(first.id) == changed
    assert shop.inventory.item(second.id) == second
    assert shop.gallery.unembedded() == 0, "its vector is still that of its image"
    with pytest.raises(NotFoundError, match="no item 'nobody'"):
        shop.inventory.change_item("nobody", label="x")
    with pytest.raises(DataError, match="size"):
        shop.inventory.change_item(first.id, metadata={"size": [1]})


def test_the_box_of_an_item_stays(shop: Catalogue, tmp_path: Path) -> None:
    path = paint(tmp_path / "a.png", 3, 7)
    (tmp_path / "table.csv").write_text(f"path,label,x_1,y_1,x_2,y_2\n{path},fig,2,2,38,38\n")
    shop.add([tmp_path / "table.csv"])
    (item,) = shop.inventory.items(labels=["fig"]).items
    box = item.metadata["box"]
    for metadata in ({"n": 1}, {"n": 1, "box": box}):
        assert shop.inventory.change_item(item.id, metadata=metadata).metadata == {"n": 1, "box": box}
    with pytest.raises(DataError, match="leave them out"):
        shop.inventory.change_item(item.id, metadata={"box": "0,0,1,1"})
    with pytest.raises(DataError, match="give the name of a class"):
        shop.inventory.change_item(item.id, label=" ")


@pytest.mark.parametrize("make", [copied, metric_shop])
def test_images_that_were_sent_become_items(make, tmp_path: Path) -> None:
    shop = make(tmp_path)
    before = shop.gallery.count()
    new = [paint(tmp_path / f"new{seed}.png", 5, seed) for seed in (1, 2)]
    known = tmp_path / "spring/train/pear/0.png"
    images = [
        *map(sent, new),
        sent(known),
        SentImage("a.txt", b"no image"),
        SentImage("b.png", new[0].read_bytes()[:90]),
    ]
    added = shop.inventory.add_images(images, "quince", {"price": 2})
    assert [item.label for item in added.items] == ["quince"] * 3
    assert [dict(item.metadata) for item in added.items] == [{"price": 2}] * 3
    assert added.known == 1
    assert sorted(name for name, _ in added.failures) == ["a.txt", "b.png"]
    assert shop.gallery.count() == before + 2
    files = sorted((shop.folder / "images").rglob("*.*"))
    assert {path.read_bytes() for path in files} == {path.read_bytes() for path in new}
    assert {str(path) for path in files} == {item.uri for item in added.items[:2]}
    assert added.items[2].uri == str(known), "a file that is intact is not stored again"
    for path in new:
        hit = shop.search(path, 1)[0]
        assert (hit.label, hit.match) == ("quince", 1.0)
    again = shop.inventory.add_images(images[:2])
    assert (again.known, again.items) == (2, added.items[:2])


def test_a_missing_file_is_replaced_by_what_was_sent(shop: Catalogue, tmp_path: Path) -> None:
    known = tmp_path / "spring/train/pear/0.png"
    image = sent(known)
    known.unlink()
    (item,) = shop.inventory.add_images([image]).items
    assert item.label == "pear"
    assert image_problem(item) is None


def test_removing_an_item_removes_the_file_that_was_sent(shop: Catalogue, tmp_path: Path) -> None:
    new = paint(tmp_path / "new.png", 5, 1)
    items = shop.inventory.add_images([sent(new), sent(tmp_path / "spring/train/pear/0.png")]).items
    assert shop.remove([item.id for item in items]) == 2
    assert not Path(items[0].uri).exists()
    assert Path(items[1].uri).exists(), "it is not the catalogue's own"
    assert new.exists()


def test_forgetting_removes_the_file_that_was_sent(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    new = [paint(tmp_path / f"new{seed}.png", 5, seed) for seed in (1, 2)]
    items = shop.inventory.add_images(list(map(sent, new)), "kiwi").items
    shop.upkeep.forget(["kiwi"])
    assert not any(Path(item.uri).exists() for item in items)


def test_doctor_finds_and_removes_files_without_an_item(shop: Catalogue, tmp_path: Path) -> None:
    (item,) = shop.inventory.add_images([sent(paint(tmp_path / "new.png", 5, 1))]).items
    assert not [finding for finding in shop.upkeep.examine() if "without an item" in finding.what]
    shop.gallery.delete([item.id])
    (finding,) = [finding for finding in shop.upkeep.examine() if "without an item" in finding.what]
    assert "--repair" in finding.cure
    assert any("an image without an item" in line for line in shop.upkeep.repair())
    assert not Path(item.uri).exists()


def test_nothing_is_stored_where_nothing_can_be_added(tmp_path: Path) -> None:
    shop = Catalogue.init(tmp_path / "empty", OPTIONS)
    image = sent(paint(tmp_path / "new.png", 5, 1))
    with pytest.raises(CatalogueError, match="nothing was learned"):
        shop.inventory.add_images([image])
    other = copied(tmp_path / "other")
    with pytest.raises(DataError, match="size"):
        other.inventory.add_images([image], metadata={"size": [1]})
    assert not list(tmp_path.rglob("images/*/*"))


def test_a_few_items_leave_the_calibrations_of_a_large_gallery(shop: Catalogue, monkeypatch, tmp_path: Path) -> None:
    fitted = []
    calibrate = ingesting.calibrate

    def counted(workspace, generation) -> None:
        fitted.append(generation.name)
        calibrate(workspace, generation)

    monkeypatch.setattr(ingesting, "calibrate", counted)
    monkeypatch.setattr(ingesting, "MAINTAINED", 4)
    for number in range(6):  # to the ten items that are there
        shop.inventory.add_images([sent(paint(tmp_path / f"new{number}.png", 5, number))], "quince")
    assert fitted == ["g0"], "at fourteen items, of which a quarter were not there when it was fitted"


@pytest.mark.parametrize("make", [copied, metric_shop])
def test_few_images_are_added_as_many_are(make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A gallery is not read as a whole for a few images, with the same result."""
    digests = []
    for chunk in (256, 1):
        monkeypatch.setattr(ingest, "CHUNK", chunk)
        shop = make(tmp_path / str(chunk))
        folder = tmp_path / str(chunk) / "spring/train"
        (item,) = shop.gallery.store.page(1, labels=["pear"])
        shop.gallery.store.drop_embeddings(shop.gallery.store.spaces()[-1].id, [item.id])
        paint(folder / "pear/new.png", 5, 1)
        (folder / "pear/broken.png").write_bytes(b"no image")
        added = shop.add([folder])
        assert len(added.failures) == 1
        stored = {each.id: each for each in shop.gallery.store.items()}
        digests.append((added.items, {name: each.label for name, each in stored.items()}, shop.gallery.unembedded()))
        assert item.id in shop.gallery.store.vectors(shop.gallery.store.spaces()[-1].id)[0]
    assert digests[0] == digests[1]
