"""Field-guide birds drawn by scrubjay itself: any number of look-alike species, nothing to download.

Species come in genera that share body and palette, and differ in fine details: cap, brow, eye ring, bill, wing bars,
streaks, hues. Images of one species differ in pose, scale, background, light, leaves in front, blur.
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
    """Options of the drawn birds. The same options give the same images, and more species never change the first."""

    root: Path = Field(default_factory=_cache)
    """Folder that the images are drawn into, once; the default is the user's cache."""
    species: int = Field(60, ge=1)
    """Number of species, which are the classes."""
    train: int = Field(20, ge=1, le=1000)
    """Images of each species to learn from."""
    test: int = Field(10, ge=0, le=1000)
    """Images of each species to evaluate on."""
    size: int = Field(128, ge=32, le=1024)
    """Side of the images, in pixels."""
    seed: int = Field(0, ge=0)
    """Which world: another seed has other species."""

    def load(self) -> Dataset:
        """Draw what is missing, and list the samples.

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
            raise DataError(f"{root}: not a folder; give the aviary a folder as its root.") from None
        except OSError as error:
            raise StorageError(f"{root}: cannot be written: {error.strerror}; give the aviary another root.") from None
        classes = tuple(aviary.name(self.seed, index) for index in range(self.species))
        samples = (
            Sample(album.place(split, bird, number), label, split)
            for label, bird in enumerate(classes)
            for split, number in album.numbers()
        )
        return Dataset("aviary", folder, classes, tuple(samples))
