from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from scrubjay.data.sources import source
from scrubjay.data.sources.folder import Folder
from scrubjay.errors import ConfigError, DataError
from scrubjay.types import Dataset


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)
    return path


def listing(dataset: Dataset) -> list[tuple[str, str, str]]:
    return [
        (str(sample.path.relative_to(dataset.root)), dataset.classes[sample.label], sample.split)
        for sample in dataset.samples
    ]


def test_class_per_sub_folder(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    for name in ("pear/1.jpg", "apple/red/2.PNG", "apple/1.webp", "apple/.hidden.jpg", "apple/.git/x.jpg", ".x/1.jpg"):
        image(root / name)
    (root / "apple" / "notes.txt").write_text("no image")
    (root / "readme.jpg.txt").write_text("no image")
    dataset = Folder(root=root).load()
    assert (dataset.name, dataset.root, dataset.classes) == ("shop", root, ("apple", "pear"))
    assert listing(dataset) == [
        ("apple/1.webp", "apple", "train"),
        ("apple/red/2.PNG", "apple", "train"),
        ("pear/1.jpg", "pear", "train"),
    ]


def test_train_and_test_folders(tmp_path: Path) -> None:
    for name in ("train/b/1.jpg", "train/a/1.jpg", "test/b/deep/2.jpg", "test/c/1.jpg"):
        image(tmp_path / name)
    (tmp_path / "test" / "a").mkdir()
    dataset = Folder(root=tmp_path, test_share=0.9).load()
    assert dataset.classes == ("a", "b", "c")
    assert listing(dataset) == [
        ("train/a/1.jpg", "a", "train"),
        ("train/b/1.jpg", "b", "train"),
        ("test/b/deep/2.jpg", "b", "test"),
        ("test/c/1.jpg", "c", "test"),
    ]


def test_train_alone_is_a_split_and_a_class_may_be_called_train(tmp_path: Path) -> None:
    image(tmp_path / "one" / "train" / "a" / "1.jpg")
    assert Folder(root=tmp_path / "one").load().classes == ("a",)
    image(tmp_path / "toys" / "train" / "1.jpg")
    image(tmp_path / "toys" / "plane" / "1.jpg")
    assert Folder(root=tmp_path / "toys").load().classes == ("plane", "train")


@pytest.mark.parametrize("other", ["val", "validation"])
def test_a_third_split_is_not_taken_for_a_class(tmp_path: Path, other: str) -> None:
    for name in ("train", "test", other):
        image(tmp_path / name / "a" / "1.jpg")
    with pytest.raises(DataError, match=f"beside train there is {other}; keep only train and test"):
        Folder(root=tmp_path).load()


def test_test_share_follows_from_the_path_alone(tmp_path: Path) -> None:
    for number in range(60):
        image(tmp_path / "one" / "a" / f"{number}.jpg")
        image(tmp_path / "one" / "b" / f"{number}.jpg")
    for number in range(0, 60, 2):
        image(tmp_path / "two" / "a" / f"{number}.jpg")
    one, two = ({p: s for p, _, s in listing(Folder(root=tmp_path / x, test_share=0.3).load())} for x in ("one", "two"))
    assert {path: one[path] for path in two} == two
    assert 24 < list(one.values()).count("test") < 48
    assert [s for p, s in one.items() if p.startswith("a/")] != [s for p, s in one.items() if p.startswith("b/")]


def test_a_class_keeps_an_image_to_learn_from(tmp_path: Path) -> None:
    for name in "abcdef":
        image(tmp_path / name / "1.jpg")
        image(tmp_path / name / "2.jpg")
    splits = listing(Folder(root=tmp_path, test_share=0.999).load())
    assert [split for _, _, split in splits].count("train") == 6
    assert {name for _, name, split in splits if split == "train"} == set("abcdef")


def test_links_are_followed_once(tmp_path: Path) -> None:
    image(tmp_path / "elsewhere" / "1.jpg")
    image(tmp_path / "root" / "a" / "1.jpg")
    (tmp_path / "root" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "a" / "loop").symlink_to(tmp_path / "root" / "a")
    assert [path for path, _, _ in listing(Folder(root=tmp_path / "root").load())] == ["a/1.jpg", "b/1.jpg"]


def test_a_relative_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(tmp_path / "root" / "a" / "1.jpg")
    monkeypatch.chdir(tmp_path)
    assert Folder(root=Path("root")).load().samples[0].path == tmp_path / "root" / "a" / "1.jpg"


def test_missing_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "gone", image(tmp_path / "x.jpg")):
        with pytest.raises(DataError, match=f"{path.name}: no such folder; give the folder that holds the images"):
            Folder(root=path).load()


def test_empty_class(tmp_path: Path) -> None:
    image(tmp_path / "a" / "1.jpg")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="class 'b' has no image; add some or remove its folder"):
        Folder(root=tmp_path).load()


@pytest.mark.parametrize("inside", ["1.jpg", ".hidden/1.jpg", "train/1.jpg"])
def test_no_class(tmp_path: Path, inside: str) -> None:
    image(tmp_path / inside)
    with pytest.raises(DataError, match="it contains no class; make a sub-folder of images for every class"):
        Folder(root=tmp_path).load()


def test_found_by_name_with_its_options() -> None:
    assert source("folder") is Folder
    with pytest.raises(ConfigError, match="test_share = 1"):
        source("folder").parse({"root": "x", "test_share": 1})
