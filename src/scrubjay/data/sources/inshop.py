"""In-shop Clothes Retrieval of DeepFashion (Liu et al., CVPR 2016): 7,982 items of clothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from scrubjay.data.sources import Source
from scrubjay.data.sources._files import containing, divided, inside, lines
from scrubjay.errors import DataError
from scrubjay.types import Dataset, Sample

_STATUS: dict[str, Literal["train", "test"]] = {"train": "train", "query": "test", "gallery": "test"}


class InShop(Source):
    """The published list `list_eval_partition.txt` (in `Eval` or beside `img`), with "image_name item_id status".

    As published, items that are queried are never learned, and queries search a gallery of other images of the same
    items. A stream that learns all items needs training and test images of each: `split = "images"`.
    """

    root: Path
    """The folder that contains `Eval` and `img`."""
    split: Literal["images", "classes"] = "images"
    """images: a share of each item's images become test images, which are searched among themselves; classes: the
    published partition with its queries and gallery."""
    test_share: float = Field(0.4, gt=0, lt=1)
    """That share, with `split = "images"`; it is chosen by a hash of each image's path."""

    def load(self) -> Dataset:
        listed = containing(self.root, "list_eval_partition.txt", "In-shop Clothes Retrieval")
        root = listed.parent if listed.name == "Eval" else listed
        rows: dict[str, dict[Path, str]] = {}
        for where, line in list(lines(listed / "list_eval_partition.txt"))[2:]:
            parts = line.split()
            if len(parts) != 3 or parts[2] not in _STATUS:
                raise DataError(
                    f'{where}: expected "image_name item_id status" with train, query or gallery; restore the '
                    "published file."
                )
            rows.setdefault(parts[1], {})[inside(root, parts[0], where)] = parts[2]
        if not rows:
            raise DataError(f"{listed / 'list_eval_partition.txt'}: it lists no image; restore the published file.")
        samples: list[Sample] = []
        for label, images in enumerate(rows.values()):
            if self.split == "images":
                chosen = divided(images, root, self.test_share)
                samples += [Sample(path, label, split) for path, split in chosen.items()]
            else:
                samples += [
                    Sample(path, label, _STATUS[status], None, status != "gallery", status != "query")
                    for path, status in images.items()
                ]
        return Dataset("inshop", root, tuple(rows), tuple(samples))
