"""Stanford Online Products (Song et al., CVPR 2016): 22,634 products with about five images each."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from scrubjay.data.sources import Source
from scrubjay.data.sources._files import containing, divided, inside, lines
from scrubjay.errors import DataError
from scrubjay.types import Dataset, Sample, Split


class StanfordOnlineProducts(Source):
    """The published folder with `Ebay_train.txt` and `Ebay_test.txt`: "image_id class_id super_class_id path".

    As published, the two lists have different classes: those of the second one are never learned. A stream that learns
    all classes needs training and test images of each: `split = "images"`.
    """

    root: Path
    """The folder `Stanford_Online_Products`, or a folder that contains it."""
    split: Literal["images", "classes"] = "images"
    """images: a share of each class's images become test images; classes: the published lists, so that the classes of
    the second list have test images only."""
    test_share: float = Field(0.4, gt=0, lt=1)
    """That share, with `split = "images"`; it is chosen by a hash of each image's path."""
    super_class: str | None = None
    """Use the products of one super class only, such as bicycle."""

    def load(self) -> Dataset:
        root = containing(self.root, "Ebay_train.txt", "Stanford Online Products")
        lists: dict[Split, Path] = {"train": root / "Ebay_train.txt", "test": root / "Ebay_test.txt"}
        images: dict[str, dict[Path, Split]] = {}
        supers = set()
        for split, path in lists.items():
            for where, line in lines(path):
                name, file, super_class = _entry(where, line)
                supers.add(super_class)
                if self.super_class in (None, super_class) and name != "class_id":
                    images.setdefault(name, {})[inside(root, file, where)] = split
        if not images:
            known = ", ".join(sorted(supers - {"path"}))
            raise DataError(f"{root}: no product of the super class {self.super_class!r}; there are: {known}.")
        if self.split == "images":
            images = {name: divided(paths, root, self.test_share) for name, paths in images.items()}
        samples = (
            Sample(path, label, split) for label, paths in enumerate(images.values()) for path, split in paths.items()
        )
        return Dataset("stanford_online_products", root, tuple(images), tuple(samples))


def _entry(where: str, line: str) -> tuple[str, str, str]:
    """Class, path and super class of a line; the super class is the first part of the path, such as bicycle_final."""
    parts = line.split(maxsplit=3)
    if len(parts) != 4:
        raise DataError(f'{where}: expected "image_id class_id super_class_id path"; restore the published file.')
    return parts[1], parts[3], parts[3].partition("/")[0].removesuffix("_final")
