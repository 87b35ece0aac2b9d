from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from scrubjay.data.sources import source
from scrubjay.data.sources.stanford_dogs import StanfordDogs
from scrubjay.errors import DataError

CHIHUAHUA, BEAGLE = "n02085620-Chihuahua", "n02088364-beagle"
TRAIN = [(f"{BEAGLE}/n02088364_1.jpg", 2), (f"{CHIHUAHUA}/n02085620_1.jpg", 1), (f"{CHIHUAHUA}/n02085620_2.jpg", 1)]
TEST = [(f"{CHIHUAHUA}/n02085620_3.jpg", 1)]
ANNOTATION = """<annotation><object><name>dog</name>
<bndbox><xmin>25</xmin><ymin>10</ymin><xmax>276</xmax><ymax>498</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object></annotation>
"""


def write_list(path: Path, entries: list[tuple[str, int]]) -> None:
    """As published: columns of cells and of doubles."""

    def cells(values: list[str]) -> np.ndarray:
        column = np.empty((len(values), 1), dtype=object)
        column[:, 0] = values
        return column

    files = [file for file, _ in entries]
    labels = np.array([[float(label)] for _, label in entries])
    annotations = cells([file.removesuffix(".jpg") for file in files])
    savemat(path, {"file_list": cells(files), "annotation_list": annotations, "labels": labels})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for file, _ in TRAIN + TEST:
        path = tmp_path / "Images" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
        annotation = tmp_path / "Annotation" / file.removesuffix(".jpg")
        annotation.parent.mkdir(parents=True, exist_ok=True)
        annotation.write_text(ANNOTATION)
    (tmp_path / "lists").mkdir()
    write_list(tmp_path / "lists" / "train_list.mat", TRAIN)
    write_list(tmp_path / "lists" / "test_list.mat", TEST)
    return tmp_path


def test_published_layout(tree: Path) -> None:
    dataset = StanfordDogs(root=tree).load()
    assert (dataset.name, dataset.root, dataset.classes) == ("stanford_dogs", tree, (CHIHUAHUA, BEAGLE))
    assert [(sample.path.name, sample.label, sample.split, sample.box) for sample in dataset.samples] == [
        ("n02088364_1.jpg", 1, "train", None),
        ("n02085620_1.jpg", 0, "train", None),
        ("n02085620_2.jpg", 0, "train", None),
        ("n02085620_3.jpg", 0, "test", None),
    ]
    assert all(sample.path.is_file() for sample in dataset.samples)


def test_lists_beside_the_images(tree: Path) -> None:
    expected = StanfordDogs(root=tree).load()
    for path in (tree / "lists").iterdir():
        path.rename(tree / path.name)
    assert StanfordDogs(root=tree).load() == expected
    assert StanfordDogs(root=tree.parent / tree.name).load() == expected


def test_crop_to_the_first_dog(tree: Path) -> None:
    assert {sample.box for sample in StanfordDogs(root=tree, crop=True).load().samples} == {(25, 10, 276, 498)}


@pytest.mark.parametrize("text", ["", "<annotation></annotation>", ANNOTATION.replace("276", "wide"), None])
def test_annotation_that_cannot_be_read(tree: Path, text: str | None) -> None:
    path = tree / "Annotation" / TRAIN[0][0].removesuffix(".jpg")
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match="n02088364_1: no readable bounding box; restore the file"):
        StanfordDogs(root=tree, crop=True).load()


@pytest.mark.parametrize("content", [b"", b"no list", b"MATLAB 5.0 MAT-file" + b"\xff" * 300])
def test_list_that_is_damaged(tree: Path, content: bytes) -> None:
    (tree / "lists" / "test_list.mat").write_bytes(content)
    with pytest.raises(
        DataError, match=r"test_list\.mat: file_list and labels cannot be read .*; restore the file from the published"
    ):
        StanfordDogs(root=tree).load()


def test_list_without_labels(tree: Path) -> None:
    savemat(tree / "lists" / "test_list.mat", {"file_list": np.zeros((1, 1))})
    with pytest.raises(DataError, match=r"test_list\.mat: file_list and labels cannot be read"):
        StanfordDogs(root=tree).load()
    savemat(tree / "lists" / "test_list.mat", {"file_list": np.zeros((1, 1)), "labels": np.zeros((2, 1))})
    with pytest.raises(DataError, match=r"test_list\.mat: not a list of files and labels"):
        StanfordDogs(root=tree).load()


def test_label_with_two_breeds(tree: Path) -> None:
    write_list(tree / "lists" / "test_list.mat", [(f"{BEAGLE}/n02088364_1.jpg", 1)])
    with pytest.raises(DataError, match=f"label 1 is both {CHIHUAHUA} and {BEAGLE}; restore the published lists"):
        StanfordDogs(root=tree).load()


def test_path_that_leads_out(tree: Path) -> None:
    write_list(tree / "lists" / "test_list.mat", [("../../x.jpg", 3)])
    with pytest.raises(DataError, match=r"path '\.\./\.\./x\.jpg' leads out of"):
        StanfordDogs(root=tree).load()


def test_what_is_missing(tree: Path) -> None:
    (tree / "lists" / "test_list.mat").unlink()
    with pytest.raises(DataError, match=r"test_list\.mat: no such file; restore it"):
        StanfordDogs(root=tree).load()
    (tree / "lists" / "train_list.mat").unlink()
    with pytest.raises(
        DataError, match=r"it does not contain train_list\.mat; give the folder of Stanford Dogs with its lists"
    ):
        StanfordDogs(root=tree).load()
    (tree / "Images").rename(tree / "Elsewhere")
    with pytest.raises(DataError, match="it does not contain Images; give the folder of Stanford Dogs"):
        StanfordDogs(root=tree).load()


def test_found_by_name() -> None:
    assert source("stanford_dogs") is StanfordDogs
