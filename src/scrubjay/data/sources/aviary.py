"""Generated field-guide birds: any number of similar species, drawn by scrubjay, with nothing to download.

All species of a genus share body and palette, and differ in fine details: cap, brow, eye ring, bill, wing bars,
streaks, hues. Images of one species differ in pose, scale, background, light, leaves in front, and blur.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from scrubjay.data.sources import Source
from scrubjay.errors import DataError, StorageError
from scrubjay.types import Dataset, Sample


def _cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "scrubjay" / "aviary"


class Aviary(Source):
    """The drawn birds. The same options give the same images, and a larger `species` keeps the first ones."""

    root: Path = Field(default_factory=_cache)
    """Folder for the images, which are drawn once; the default is the user's cache folder."""
    species: int = Field(60, ge=1)
    """Number of species, which are the classes."""
    train: int = Field(20, ge=1, le=1000)
    """Number of training images of each species."""
    test: int = Field(10, ge=0, le=1000)
    """Number of test images of each species."""
    size: int = Field(128, ge=32, le=1024)
    """Side of the square images, in pixels."""
    seed: int = Field(0, ge=0)
    """Seed of the species: another seed gives other species."""

    def load(self) -> Dataset:
        """Draw missing images, and list the samples.

        Raises:
            DataError: `root` is a file.
            StorageError: `root` cannot be written, or the disk is full.
        """
        from scrubjay.data import aviary

        root = self.root.expanduser()
        folder = root / f"seed{self.seed}-{self.size}px-r{aviary.REVISION}"
        album = aviary.Album(str(folder), self.species, self.train, self.test, self.size, self.seed)
        try:
            album.complete()
        except (NotADirectoryError, FileExistsError):
            raise DataError(f"{root}: not a folder; give a folder as the root of the aviary.") from None
        except OSError as error:
            raise StorageError(
                f"{root}: cannot be written: {error.strerror}; give another root to the aviary."
            ) from None
        classes = tuple(aviary.name(self.seed, index) for index in range(self.species))
        samples = (
            Sample(album.place(split, bird, number), label, split)
            for label, bird in enumerate(classes)
            for split, number in album.numbers()
        )
        return Dataset("aviary", folder, classes, tuple(samples))
