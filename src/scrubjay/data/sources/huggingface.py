"""A data set of the Hugging Face Hub, or in a folder, read by the library `datasets` (extra `huggingface`)."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from scrubjay.data.sources import Source
from scrubjay.data.sources._archive import cache_folder
from scrubjay.errors import ConfigError, DataError, StorageError
from scrubjay.types import Dataset, Sample, Split

_EXTENSIONS = {
    b"\xff\xd8": "jpg",
    b"\x89P": "png",
    b"RI": "webp",
    b"GI": "gif",
    b"BM": "bmp",
    b"II": "tif",
    b"MM": "tif",
}


class HuggingFace(Source):
    """A data set with a column of images and a column of labels; the images are written once into the cache folder."""

    name: str
    """Name on the Hub, such as `timm/oxford-iiit-pet`, or path of a folder that `datasets.load_dataset` reads."""
    config: str | None = None
    """Name of the configuration, where there are several."""
    revision: str | None = None
    """Revision on the Hub: a branch, a tag or a commit."""
    train: str = "train"
    """Name of the split of the training images."""
    test: str | None = "test"
    """Name of the split of the test images."""
    image: str = "image"
    """Name of the column of images."""
    label: str = "label"
    """Name of the column of labels: names of classes, or numbers that the data set has names for."""

    def load(self) -> Dataset:
        splits: dict[Split, str | None] = {"train": self.train, "test": self.test}
        found: list[tuple[Path, str, Split]] = []
        names: list[str] = []
        for split, published in splits.items():
            if published is not None:
                rows = self._rows(published)
                names = names or list(getattr(rows.features[self.label], "names", None) or ())
                found += [(path, name, split) for path, name in self._exported(rows, published, names)]
        classes = names or sorted({name for _, name, _ in found})
        number = {name: index for index, name in enumerate(classes)}
        samples = tuple(Sample(path, number[name], split) for path, name, split in found)
        return Dataset(self.name.rpartition("/")[2], self._folder, tuple(classes), samples)

    @property
    def _folder(self) -> Path:
        identity = hashlib.blake2b(repr(self).encode(), digest_size=8).hexdigest()
        return cache_folder() / "huggingface" / f"{self.name.replace('/', '--')}-{identity}"

    def _rows(self, split: str) -> Any:
        try:
            import datasets
        except ImportError:
            raise ConfigError("the source huggingface needs: pip install 'scrubjay[huggingface]'") from None
        try:
            rows = datasets.load_dataset(self.name, self.config, split=split, revision=self.revision)
        except Exception as error:  # the library raises errors of any type, also of the network
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DataError(
                f"{self.name}, split {split}: cannot be loaded ({reason}); check name and splits."
            ) from None
        for option, column in (("image", self.image), ("label", self.label)):
            if column not in rows.features:
                known = ", ".join(rows.features)
                raise DataError(f"{self.name}: no column {column!r}; set {option} to one of: {known}.")
        if not isinstance(rows.features[self.image], datasets.Image):
            raise DataError(f"{self.name}: column {self.image!r} does not hold images; set image to another column.")
        return rows.cast_column(self.image, datasets.Image(decode=False))

    def _exported(self, rows: Any, split: str, names: list[str]) -> list[tuple[Path, str]]:
        """Path and class name of each image. Those that are not on disk are written; the folder is renamed last."""
        target = self._folder / split
        if not target.is_dir():
            partial = target.with_name(f".partial-{split}")
            try:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                for number, cell in enumerate(rows[self.image]):
                    data = _content(cell, f"{self.name}, {split}, row {number}")
                    (partial / f"{number:08d}.{_EXTENSIONS.get(data[:2], 'img')}").write_bytes(data)
                partial.rename(target)
            except OSError as error:
                raise StorageError(
                    f"{target}: cannot be written ({error.strerror}); free some space, or set XDG_CACHE_HOME to "
                    "another folder."
                ) from None
        labels = [names[value] if names and isinstance(value, int) else str(value) for value in rows[self.label]]
        return list(zip(sorted(target.iterdir()), labels, strict=True))


def _content(cell: Any, where: str) -> bytes:
    """The bytes of an image file, which are in the table or in a file beside it."""
    data = (cell or {}).get("bytes")
    path = (cell or {}).get("path")
    if data is None and path and Path(path).is_file():
        data = Path(path).read_bytes()
    if not data:
        raise DataError(f"{where}: the image is gone; download the data set again.")
    return bytes(data)
