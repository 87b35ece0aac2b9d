"""Drawn images on disk: missing ones are drawn on all cores; a file is complete or does not exist."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from scrubjay.data.aviary.image import bird_image
from scrubjay.data.aviary.names import name

Split = Literal["train", "test"]

_log = logging.getLogger(__name__)
_IMAGES_PER_PROCESS = 150  # starting an interpreter takes about as long as drawing these
_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class Album:
    """The images of the first `species` species of the world `seed`: `folder`/train|test/Name/000.jpg."""

    folder: str
    species: int
    train: int
    test: int
    size: int
    seed: int

    def place(self, split: str, species: str, number: int) -> Path:
        """Path of an image, whether it has been drawn or not."""
        return Path(self.folder, split, species, f"{number:03d}.jpg")

    def numbers(self) -> Iterator[tuple[Split, int]]:
        """Split and number of each image of a species."""
        yield from (("train", number) for number in range(self.train))
        yield from (("test", number) for number in range(self.test))

    def complete(self) -> None:
        """Draw all missing images. May be interrupted at any time, and run by several processes at once.

        Raises:
            OSError: a file or folder cannot be written.
        """
        missing = sum(len(self._missing(index)) for index in range(self.species))
        if missing:
            _log.info("drawing %d birds into %s", missing, self.folder)
            helpers = self._helpers(min(os.cpu_count() or 1, self.species, 1 + missing // _IMAGES_PER_PROCESS, 16))
            try:
                self.draw(0, 1 + len(helpers))
                for helper in helpers:
                    helper.wait()
            finally:
                for helper in helpers:
                    helper.kill()
                    helper.wait()
            for index in range(self.species):  # whatever a failed helper did not draw
                self._draw_missing(index)

    def draw(self, part: int, parts: int) -> None:
        """Draw the missing images of every `parts`-th species, starting with species `part`."""
        indices = range(part, self.species, parts)
        for done, index in enumerate(indices, start=1):
            self._draw_missing(index)
            if part == 0 and done % max(1, len(indices) // 10) == 0:
                _log.info("drew the birds of %d of %d species", done * parts, self.species)

    def _missing(self, index: int) -> list[tuple[Split, int]]:
        bird = name(self.seed, index)
        return [(split, number) for split, number in self.numbers() if not self.place(split, bird, number).exists()]

    def _draw_missing(self, index: int) -> None:
        for split, number in self._missing(index):
            self._draw(index, split, number)

    def _draw(self, index: int, split: Split, number: int) -> None:
        target = self.place(split, name(self.seed, index), number)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            image = bird_image(self.seed, index, split, number, self.size)
            image.save(draft, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
            draft.replace(target)
        finally:
            with suppress(FileNotFoundError):
                draft.unlink()

    def _helpers(self, parts: int) -> list[subprocess.Popen[bytes]]:
        """Start the other interpreters; a process pool would run a caller's unguarded script a second time."""
        options = [f"{key}={value}" for key, value in asdict(self).items()]
        commands = [[sys.executable, "-m", __package__ or "", f"{part}/{parts}", *options] for part in range(1, parts)]
        quiet = subprocess.DEVNULL
        return [subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) for command in commands]
