"""Shards of WebDataset: tar files in which the files of one sample follow each other and share their name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from scrubjay.data.sources import Source
from scrubjay.data.sources._archive import unpacked
from scrubjay.data.sources._files import SUFFIXES, files_below
from scrubjay.errors import DataError
from scrubjay.types import Dataset, Sample, Split


class WebDataset(Source):
    """An image and its label under one key: `0001.jpg` with `0001.cls`, a text, or with a field of `0001.json`.

    The shards are unpacked once into the cache folder. The class names are the labels as text.
    """

    train: str
    """Paths of the shards with training images: a glob pattern, or a range as in `train-{000..012}.tar`."""
    test: str | None = None
    """Paths of the shards with test images."""
    label: str = "cls"
    """Extension of the file with the label, or with `json.NAME` the field NAME of the file `json`."""

    def load(self) -> Dataset:
        patterns: dict[Split, str | None] = {"train": self.train, "test": self.test}
        found: list[tuple[Path, str, Split]] = []
        for split, pattern in patterns.items():
            for shard in _shards(pattern) if pattern is not None else ():
                found += [(path, label, split) for path, label in self._samples(shard)]
        classes = sorted(
            {label for _, label, _ in found}, key=lambda name: (not name.isdecimal(), name.zfill(12), name)
        )
        number = {name: index for index, name in enumerate(classes)}
        root = found[0][0].parent.parent
        return Dataset("webdataset", root, tuple(classes), tuple(Sample(p, number[name], s) for p, name, s in found))

    def _samples(self, shard: Path) -> Iterator[tuple[Path, str]]:
        """Path and label of each image of a shard."""
        folder = unpacked(shard)
        extension, _, field = self.label.partition(".")
        images, labels = {}, {}
        for path in files_below(folder):
            key, _, suffix = path.relative_to(folder).as_posix().partition(".")
            if f".{suffix.lower()}" in SUFFIXES:
                images[key] = path
            elif suffix == extension:
                labels[key] = path
        if not images:
            raise DataError(f"{shard}: no image in it; give shards with files such as 0001.jpg and 0001.{extension}.")
        for key, image in images.items():
            if key not in labels:
                raise DataError(f"{shard}: {key} has no file .{extension} with its label; name another with label = …")
            yield image, _label(labels[key], field, f"{shard}, {key}")


def _shards(pattern: str) -> list[Path]:
    numbers = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if numbers is None:
        paths = [Path(path) for path in sorted(glob(str(Path(pattern).expanduser())))]
    else:
        first, last = numbers.groups()
        names = (f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1))
        paths = [Path(pattern[: numbers.start()] + name + pattern[numbers.end() :]).expanduser() for name in names]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None or not paths:
        raise DataError(f"{missing or pattern}: no such shard; give the paths of .tar files.")
    return paths


def _label(path: Path, field: str, where: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
        value = json.loads(text)[field] if field else text
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{where}: its label cannot be read from {path.name}; restore the shard.") from None
    if not str(value):
        raise DataError(f"{where}: its label is empty; restore the shard.")
    return str(value)
