"""A folder of images with one sub-folder per class, or with folders `train` and `test` of such sub-folders."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from scrubjay.data.sources import Source
from scrubjay.data.sources._files import divided, folder, images_below, subfolders
from scrubjay.errors import DataError
from scrubjay.types import Dataset, Sample, Split


class Folder(Source):
    """`root/<class>/…` or `root/{train,test}/<class>/…`; the folder of a class may have sub-folders of any depth."""

    root: Path
    """The folder that holds the folders of the classes, or `train` and `test`."""
    test_share: float = Field(0.0, ge=0, lt=1)
    """Share of the images that become test images where there is no folder `test`. It is chosen by a hash of each
    image's path, so that adding images moves no other."""

    def load(self) -> Dataset:
        root = folder(self.root)
        images_by_class = self._split_layout(root)
        if images_by_class is None:
            images_by_class = self._flat_layout(root)
        if not images_by_class:
            raise DataError(f"{root}: it contains no class; make a sub-folder of images for every class.")
        for name, images in images_by_class.items():
            if not images:
                raise DataError(f"{root}: class {name!r} has no image; add some or remove its folder.")
        samples = (
            Sample(path, label, split)
            for label, images in enumerate(images_by_class.values())
            for path, split in images.items()
        )
        return Dataset(root.name, root, tuple(images_by_class), tuple(samples))

    def _flat_layout(self, root: Path) -> dict[str, dict[Path, Split]]:
        return {name: divided(images_below(root / name), root, self.test_share) for name in subfolders(root)}

    def _split_layout(self, root: Path) -> dict[str, dict[Path, Split]] | None:
        names = set(subfolders(root))
        if not names or not names <= {"train", "test"}:
            if "train" in names and names & {"test", "val", "valid", "validation"}:
                others = ", ".join(sorted(names - {"train", "test"}))
                raise DataError(f"{root}: beside train there is {others}; keep only train and test.")
            return None
        splits: tuple[Split, ...] = ("train", "test")
        below = {split: subfolders(root / split) if split in names else [] for split in splits}
        return {
            name: {
                path: split for split in splits if name in below[split] for path in images_below(root / split / name)
            }
            for name in sorted({*below["train"], *below["test"]})
        }
