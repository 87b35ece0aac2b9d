"""Grocery Store Dataset (Klasson et al., WACV 2019): 81 fine-grained products, photographed in shops."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from scrubjay.data.sources import Source
from scrubjay.data.sources._archive import unpacked
from scrubjay.data.sources._files import containing, inside, lines
from scrubjay.errors import DataError
from scrubjay.types import Dataset, Sample

_VARIABLE = "SCRUBJAY_GROCERY"


class Grocery(Source):
    """The published lists `train.txt`, `val.txt` and `test.txt` with their fine labels, named by `classes.csv`."""

    root: Path | None = None
    """Folder or archive (.zip, .tar.*) of the data set; by default the value of the variable SCRUBJAY_GROCERY."""
    val: Literal["train", "ignore"] = "train"
    """Use of the published validation images: as training images, or not at all."""

    def load(self) -> Dataset:
        root = self._root()
        names = _names(root / "classes.csv")
        samples = list(_samples(root, "train", "train", names))
        if self.val == "train":
            samples += _samples(root, "val", "train", names)
        samples += _samples(root, "test", "test", names)
        return Dataset("grocery", root, tuple(names), tuple(samples))

    def _root(self) -> Path:
        root = self.root or Path(os.environ.get(_VARIABLE) or "")
        if root == Path():
            raise DataError(
                f"grocery: no root given and {_VARIABLE} is not set; give the folder or archive of the "
                "Grocery Store dataset (Klasson et al., WACV 2019; github.com/marcusklasson/GroceryStoreDataset)."
            )
        root = root.expanduser()
        return containing(unpacked(root) if root.is_file() else root, "train.txt", "the Grocery Store dataset")


def _names(path: Path) -> list[str]:
    names: dict[int, str] = {}
    for where, line in list(lines(path))[1:]:
        try:
            name, label, *_ = next(csv.reader([line]))
            names[int(label)] = name.strip()
        except (ValueError, csv.Error):
            raise DataError(f"{where}: expected name, number, …; restore the published file.") from None
    if not names or sorted(names) != list(range(len(names))):
        raise DataError(f"{path}: class numbers do not run from 0; restore the published file.")
    return [names[label] for label in range(len(names))]


def _samples(root: Path, part: str, split: Literal["train", "test"], names: list[str]) -> Iterator[Sample]:
    for where, line in lines(root / f"{part}.txt"):
        path, *labels = line.rsplit(",", 2)
        if len(labels) != 2 or not labels[0].strip().isdecimal():
            raise DataError(f"{where}: expected path, fine label, coarse label; restore the published file.")
        label = int(labels[0])
        if label >= len(names):
            raise DataError(
                f"{where}: label {label} is not one of the {len(names)} in classes.csv; restore the published file."
            )
        yield Sample(inside(root, path.strip(), where), label, split)
