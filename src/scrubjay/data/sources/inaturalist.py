"""Annotations as those of the iNaturalist competitions: JSON with images, annotations and categories, as in COCO."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scrubjay.data.sources import Source
from scrubjay.data.sources._files import folder, inside
from scrubjay.errors import DataError
from scrubjay.types import Dataset, Sample, Split


class INaturalist(Source):
    """One file of annotations for training images and one for test images; file names are relative to `root`.

    `images` have `id` and `file_name`, `annotations` have `image_id` and `category_id`, `categories` have `id` and
    `name`; other keys are ignored, also the boxes of COCO.
    """

    root: Path
    """Folder that the file names are relative to."""
    train: Path = Path("train.json")
    """Annotations of the training images; relative to `root`, or absolute."""
    test: Path | None = Path("val.json")
    """Annotations of the test images."""
    only: str | None = None
    """Use the categories only that have this value under one of their keys, such as the supercategory Aves."""

    def load(self) -> Dataset:
        root = folder(self.root)
        files: dict[Split, Path | None] = {"train": self.train, "test": self.test}
        contents = {split: (root / path, _read(root / path)) for split, path in files.items() if path is not None}
        names: dict[Any, str] = {}
        for path, content in contents.values():
            names |= {
                entry["id"]: str(entry["name"])
                for entry in _entries(path, content, "categories", "id", "name")
                if self.only is None or self.only in map(str, entry.values())
            }
        if not names:
            raise DataError(f"{root}: no category with {self.only!r}; give a value that categories have.")
        samples = []
        for split, (path, content) in contents.items():
            category = {
                entry["image_id"]: entry["category_id"]
                for entry in _entries(path, content, "annotations", "image_id", "category_id")
            }
            for image in _entries(path, content, "images", "id", "file_name"):
                if category.get(image["id"]) in names:
                    where = f"{path}, image {image['id']}"
                    samples.append((inside(root, image["file_name"], where), category[image["id"]], split))
        used = {number for _, number, _ in samples}
        label = {number: index for index, number in enumerate(number for number in names if number in used)}
        classes = _distinct({number: names[number] for number in label})
        return Dataset(root.name, root, classes, tuple(Sample(path, label[n], split) for path, n, split in samples))


def _distinct(names: Mapping[Any, str]) -> tuple[str, ...]:
    """The names of the classes; where two categories have one name, with their numbers."""
    values = list(names.values())
    return tuple(name if values.count(name) == 1 else f"{name} ({number})" for number, name in names.items())


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the annotations with train = PATH and test = PATH.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); restore it from the published data set.") from None


def _entries(path: Path, content: Any, key: str, *fields: str) -> list[dict[str, Any]]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DataError(f"{path}: no list {key!r}; the file needs images, annotations and categories.")
    for number, entry in enumerate(entries):
        missing = [field for field in fields if not isinstance(entry, dict) or field not in entry]
        if missing:
            raise DataError(f"{path}: {key}[{number}] has no {missing[0]!r}; restore it from the published data set.")
    return entries
