"""A folder with a sub-folder of images for every class, or with train and test folders of such."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import Field

from scrubjay.data.sources import Source
from scrubjay.data.sources._files import folder, images_below, subfolders
from scrubjay.errors import DataError
from scrubjay.types import Dataset, Sample

Split = Literal["train", "test"]


class Folder(Source):
    """`root/<class>/…` or `root/{train,test}/<class>/…`; images may lie in folders of any depth inside a class."""

    root: Path
    """The folder."""
    test_share: float = Field(0.0, ge=0, lt=1)
    """Share of the images that are tested on where there is no test folder; follows from each image's path."""

    def load(self) -> Dataset:
        root = folder(self.root)
        found = self._split_layout(root)
        if found is None:
            found = self._flat_layout(root)
        if not found:
            raise DataError(f"{root}: no class in it; make a sub-folder of images for every class.")
        for name, images in found.items():
            if not images:
                raise DataError(f"{root}: class {name!r} has no image; add some or remove its folder.")
        samples = (
            Sample(path, label, split) for label, images in enumerate(found.values()) for path, split in images.items()
        )
        return Dataset(root.name, root, tuple(found), tuple(samples))

    def _flat_layout(self, root: Path) -> dict[str, dict[Path, Split]]:
        return {name: _divided(images_below(root / name), root, self.test_share) for name in subfolders(root)}

    def _split_layout(self, root: Path) -> dict[str, dict[Path, Split]] | None:
        names = set(subfolders(root))
        if not names or not names <= {"train", "test"}:
            if "train" in names and names & {"test", "val", "valid", "validation"}:
                others = ", ".join(sorted(names - {"train", "test"}))
                raise DataError(f"{root}: beside train there is {others}; leave train and test only.")
            return None
        splits: tuple[Split, ...] = ("train", "test")
        below = {split: subfolders(root / split) if split in names else [] for split in splits}
        return {
            name: {
                path: split for split in splits if name in below[split] for path in images_below(root / split / name)
            }
            for name in sorted({*below["train"], *below["test"]})
        }


def _divided(images: list[Path], root: Path, test_share: float) -> dict[Path, Split]:
    """Images whose hash is low are tested on, so that adding some moves no other; one is always left to train."""
    ranks = {path: _rank(path.relative_to(root)) for path in images}
    last = max(ranks, key=ranks.__getitem__, default=None)
    return {path: "test" if rank < test_share and path != last else "train" for path, rank in ranks.items()}


def _rank(path: Path) -> float:
    return (
        int.from_bytes(hashlib.blake2b(path.as_posix().encode(errors="surrogateescape"), digest_size=7).digest())
        / 2**56
    )
