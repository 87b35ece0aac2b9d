from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from scrubjay.data.sources import source
from scrubjay.data.sources.cub200 import Cub200
from scrubjay.errors import DataError

FILES = {
    "classes.txt": "1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n",
    "images.txt": "1 001.Black_footed_Albatross/a.jpg\n2 001.Black_footed_Albatross/b.jpg\n"
    "3 002.Laysan_Albatross/c.jpg\n",
    "image_class_labels.txt": "1 1\n2 1\n3 2\n",
    "train_test_split.txt": "1 0\n2 1\n3 1\n",
    "bounding_boxes.txt": "1 60.0 27.0 325.0 304.0\n2 139.0 30.0 153.0 264.0\n3 14.0 112.0 388.0 186.0\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "CUB_200_2011"
    for line in FILES["images.txt"].splitlines():
        path = root / "images" / line.split()[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    for name, text in FILES.items():
        (root / name).write_text(text)
    return root


@pytest.fixture
def lists(tmp_path: Path) -> tuple[Path, Path]:
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    train.write_text("001.Black_footed_Albatross/a.jpg 0\nimages/002.Laysan_Albatross/c.jpg 1\n")
    test.write_text("001.Black_footed_Albatross/b.jpg 0\n")
    return train, test


def test_official_split(tree: Path) -> None:
    dataset = Cub200(root=tree).load()
    assert (dataset.name, dataset.root) == ("cub200", tree)
    assert dataset.classes == ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    assert [(s.path.name, s.label, s.split, s.box) for s in dataset.samples] == [
        ("a.jpg", 0, "test", None),
        ("b.jpg", 0, "train", None),
        ("c.jpg", 1, "train", None),
    ]
    assert all(sample.path.is_file() for sample in dataset.samples)
    assert Cub200(root=tree.parent).load() == dataset


def test_crop_to_bounding_boxes(tree: Path) -> None:
    assert [sample.box for sample in Cub200(root=tree, crop=True).load().samples] == [
        (60, 27, 385, 331),
        (139, 30, 292, 294),
        (14, 112, 402, 298),
    ]


def test_published_lists(tree: Path, lists: tuple[Path, Path]) -> None:
    dataset = Cub200.parse({"root": tree, "lists": [str(path) for path in lists]}).load()
    assert [(sample.path.name, sample.label, sample.split) for sample in dataset.samples] == [
        ("a.jpg", 0, "train"),
        ("c.jpg", 1, "train"),
        ("b.jpg", 0, "test"),
    ]
    assert all(sample.path.is_file() for sample in dataset.samples)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("003.None/x.jpg 2\n", r"test\.txt, line 1: '003\.None/x\.jpg' is not in images\.txt"),
        ("001.Black_footed_Albatross/a.jpg 0\n", r"test\.txt, line 1: .* is also in .*train\.txt, line 1; list every"),
    ],
)
def test_lists_that_do_not_fit(tree: Path, lists: tuple[Path, Path], text: str, message: str) -> None:
    lists[1].write_text(text)
    with pytest.raises(DataError, match=message):
        Cub200(root=tree, lists=lists).load()


def test_list_that_is_missing(tree: Path, lists: tuple[Path, Path]) -> None:
    lists[0].unlink()
    with pytest.raises(DataError, match=r"train\.txt: no such file"):
        Cub200(root=tree, lists=lists).load()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("image_class_labels.txt", "1 1\n2 1\n", "image 3 is missing in one of the lists; restore them"),
        ("image_class_labels.txt", "1 1\n2 1\n3 9\n", "image 3 is missing in one of the lists"),
        ("train_test_split.txt", "1 0\n4 1\n", "image 4 is missing in one of the lists"),
        ("bounding_boxes.txt", "1 60.0 27.0 325.0\n", r"bounding_boxes\.txt: image 1 has the box"),
        ("bounding_boxes.txt", "1 1 1 1 1\n", "image 2 is missing in one of the lists"),
        ("classes.txt", "1\n", r"classes\.txt, line 1: expected a number and a value"),
        ("images.txt", "1 ../../x.jpg\n2 a.jpg\n3 b.jpg\n", r"images\.txt, image 1: path '\.\./\.\./x\.jpg' leads"),
    ],
)
def test_files_that_are_not_as_published(tree: Path, name: str, text: str, message: str) -> None:
    (tree / name).write_text(text)
    with pytest.raises(DataError, match=message):
        Cub200(root=tree, crop=True).load()


@pytest.mark.parametrize("name", sorted(FILES))
def test_files_that_are_missing(tree: Path, name: str) -> None:
    (tree / name).unlink()
    with pytest.raises(DataError, match=name):
        Cub200(root=tree, crop=True).load()


def test_found_by_name() -> None:
    assert source("cub200") is Cub200
