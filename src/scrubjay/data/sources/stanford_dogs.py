"""Stanford Dogs (Khosla et al., 2011): 120 dog breeds, with the published split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from scrubjay.data.sources import Source
from scrubjay.data.sources._files import containing, inside
from scrubjay.data.sources._matlab import variables
from scrubjay.errors import DataError
from scrubjay.types import Dataset, Sample, Split


class StanfordDogs(Source):
    """The published archives unpacked into one folder: `Images`, the lists (`train_list.mat`, …), and `Annotation`.

    The lists are in the folder `lists` or beside `Images`. Class names are the names of the folders, such as
    `n02085620-Chihuahua`.
    """

    root: Path
    """The folder that contains `Images`."""
    crop: bool = False
    """Whether images are cropped to the first dog's bounding box in `Annotation`."""

    def load(self) -> Dataset:
        root = containing(self.root, "Images", "Stanford Dogs")
        lists = containing(root, "train_list.mat", "Stanford Dogs with its lists")
        splits: tuple[Split, ...] = ("train", "test")
        entries = [(split, *entry) for split in splits for entry in _entries(lists / f"{split}_list.mat")]
        names: dict[int, str] = {}
        for _, file, number in entries:
            if names.setdefault(number, _breed(file)) != _breed(file):
                raise DataError(
                    f"{lists}: label {number} is both {names[number]} and {_breed(file)}; restore the published lists."
                )
        label = {number: index for index, number in enumerate(sorted(names))}
        samples = (
            Sample(inside(root / "Images", file, str(lists)), label[number], split, self._box(root, file))
            for split, file, number in entries
        )
        return Dataset("stanford_dogs", root, tuple(names[number] for number in sorted(names)), tuple(samples))

    def _box(self, root: Path, file: str) -> tuple[int, int, int, int] | None:
        if not self.crop:
            return None
        path = inside(root / "Annotation", file.rpartition(".")[0], file)
        try:
            box = ElementTree.parse(path).find(".//bndbox")
            if box is None:
                raise ValueError("no bounding box")
            left, top, right, bottom = (int(box.findtext(side, "")) for side in ("xmin", "ymin", "xmax", "ymax"))
        except (OSError, ElementTree.ParseError, ValueError):
            raise DataError(
                f"{path}: no readable bounding box; restore the file from the archive, or set crop = false."
            ) from None
        return left, top, right, bottom


def _breed(file: str) -> str:
    return file.partition("/")[0]


def _entries(path: Path) -> Iterator[tuple[str, int]]:
    """Path below `Images` and label of every image in a list, a MATLAB file of two columns."""
    content = variables(path, "file_list", "labels")
    try:
        files, labels = content["file_list"].ravel(), content["labels"].ravel()
        entries = [(str(file.item()), int(label)) for file, label in zip(files, labels, strict=True)]
    except (AttributeError, ValueError):
        raise DataError(
            f"{path}: not a list of files and labels; restore the file from the published data set."
        ) from None
    yield from entries
