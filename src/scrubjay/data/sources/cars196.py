"""Cars196, the Stanford Cars (Krause et al., 2013): 196 models of cars, with the published split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scrubjay.data.sources import Source
from scrubjay.data.sources._files import containing, inside
from scrubjay.data.sources._matlab import variables
from scrubjay.errors import DataError
from scrubjay.types import Dataset, Sample, Split


@dataclass(frozen=True)
class _Annotation:
    path: Path
    number: int
    split: Split
    box: tuple[int, int, int, int]


class Cars196(Source):
    """The published files: `cars_annos.mat` beside `car_ims`, or `devkit` beside `cars_train` and `cars_test`.

    The devkit holds `cars_meta.mat`, `cars_train_annos.mat` and `cars_test_annos_withlabels.mat`, which lies beside the
    folder `devkit` in some copies.
    """

    root: Path
    """The folder that contains `cars_annos.mat` or `devkit`, or a folder that contains it."""
    crop: bool = False
    """Whether images are cropped to the published bounding boxes."""

    def load(self) -> Dataset:
        try:
            root = containing(self.root, "cars_annos.mat", "Cars196")
        except DataError:
            root = containing(self.root, "devkit", "Cars196, with cars_annos.mat or devkit")
            names, annotations = _devkit(root)
        else:
            names, annotations = _one_file(root)
        samples = []
        for each in annotations:
            if not 1 <= each.number <= len(names):
                raise DataError(
                    f"{root}: {each.path.name} has class {each.number} of {len(names)}; restore the published files."
                )
            samples.append(Sample(each.path, each.number - 1, each.split, each.box if self.crop else None))
        return Dataset("cars196", root, tuple(names), tuple(samples))


def _one_file(root: Path) -> tuple[list[str], list[_Annotation]]:
    path = root / "cars_annos.mat"
    content = variables(path, "annotations", "class_names")
    found = list(_annotations(path, root, content["annotations"], "relative_im_path"))
    return _names(path, content["class_names"]), found


def _devkit(root: Path) -> tuple[list[str], list[_Annotation]]:
    devkit = root / "devkit"
    labelled = "cars_test_annos_withlabels.mat"
    lists: dict[Split, Path] = {
        "train": devkit / "cars_train_annos.mat",
        "test": root / labelled if (root / labelled).is_file() else devkit / labelled,
    }
    found: list[_Annotation] = []
    for split, path in lists.items():
        content = variables(path, "annotations")
        found += _annotations(path, root / f"cars_{split}", content["annotations"], "fname", split)
    return _names(devkit / "cars_meta.mat", variables(devkit / "cars_meta.mat", "class_names")["class_names"]), found


def _names(path: Path, names: Any) -> list[str]:
    try:
        return [str(name.item()) for name in names.ravel()]
    except (AttributeError, ValueError):
        raise DataError(f"{path}: its class names are not as published; restore the file.") from None


def _annotations(path: Path, folder: Path, rows: Any, name: str, split: Split | None = None) -> Iterator[_Annotation]:
    """The annotations of one file; without a split it has a field `test`."""
    for index, row in enumerate(rows.ravel(), start=1):
        where = f"{path}, annotation {index}"
        try:
            box = (int(row["bbox_x1"].item()), int(row["bbox_y1"].item()))
            box_end = (int(row["bbox_x2"].item()), int(row["bbox_y2"].item()))
            number, file = int(row["class"].item()), str(row[name].item())
            own: Split = split or ("test" if int(row["test"].item()) else "train")
        except (IndexError, KeyError, ValueError, AttributeError):
            raise DataError(f"{where}: a field is missing or not a number; restore the published file.") from None
        yield _Annotation(inside(folder, file, where), number, own, (*box, *box_end))
