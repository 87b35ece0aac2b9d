"""CUB-200-2011 (Wah et al., 2011): 200 bird species, with the official split or lists such as the 60/40 ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scrubjay.data.sources import Source
from scrubjay.data.sources._files import containing, inside, lines
from scrubjay.errors import DataError
from scrubjay.types import Dataset, Sample, Split


class Cub200(Source):
    """The published folder `CUB_200_2011` with `images.txt`, `image_class_labels.txt`, `train_test_split.txt`, ….

    `lists` names two text files with a line "path label" for every image, as published for the split that trains on
    60 % of each class. Paths are those of `images.txt`, with or without `images/` before them. The labels are ignored,
    since some lists count from 0 and others from 1; `image_class_labels.txt` is used. Images on neither list are left
    out.
    """

    root: Path
    """The folder `CUB_200_2011`, or a folder that contains it."""
    lists: tuple[Path, Path] | None = None
    """List of the training images and list of the test images; by default the official split."""
    crop: bool = False
    """Whether images are cropped to the published bounding boxes."""

    def load(self) -> Dataset:
        root = containing(self.root, "images.txt", "CUB-200-2011")
        classes = _column(root / "classes.txt")
        label = {number: index for index, number in enumerate(classes)}
        paths, numbers = _column(root / "images.txt"), _column(root / "image_class_labels.txt")
        boxes = _boxes(root / "bounding_boxes.txt") if self.crop else {}
        listed = _official(root) if self.lists is None else _listed(self.lists, paths)
        samples = []
        for image, split in listed:
            if image not in paths or numbers.get(image) not in label or (self.crop and image not in boxes):
                raise DataError(
                    f"{root}: image {image} is missing in one of the lists; restore them from the published archive."
                )
            path = inside(root / "images", paths[image], f"{root / 'images.txt'}, image {image}")
            samples.append(Sample(path, label[numbers[image]], split, boxes.get(image)))
        return Dataset("cub200", root, tuple(classes.values()), tuple(samples))


def _column(path: Path) -> dict[str, str]:
    """Values by number, from the lines "number value" of a text file."""
    column = {}
    for where, line in lines(path):
        number, _, value = line.partition(" ")
        if not value:
            raise DataError(f"{where}: expected a number and a value; restore the published file.")
        column[number] = value.strip()
    return column


def _boxes(path: Path) -> dict[str, tuple[int, int, int, int]]:
    boxes = {}
    for image, value in _column(path).items():
        try:
            left, top, width, height = (round(float(part)) for part in value.split())
        except ValueError:
            raise DataError(f"{path}: image {image} has the box {value!r}; restore the published file.") from None
        boxes[image] = (left, top, left + width, top + height)
    return boxes


def _official(root: Path) -> Iterator[tuple[str, Split]]:
    for image, value in _column(root / "train_test_split.txt").items():
        yield image, "train" if value == "1" else "test"


def _listed(lists: tuple[Path, Path], paths: dict[str, str]) -> Iterator[tuple[str, Split]]:
    images = {path: image for image, path in paths.items()}
    splits: tuple[Split, ...] = ("train", "test")
    seen: dict[str, str] = {}
    for path, split in zip(lists, splits, strict=True):
        for where, line in lines(path.expanduser()):
            name = line.rsplit(maxsplit=1)[0].removeprefix("images/")
            if name not in images:
                raise DataError(f'{where}: {name!r} is not in images.txt; write "path label" with a path from there.')
            if name in seen:
                raise DataError(f"{where}: {name!r} is also in {seen[name]}; list every image once.")
            seen[name] = where
            yield images[name], split
