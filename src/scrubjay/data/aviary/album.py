"""Images on disk: drawn where they are missing, each complete or not there, on all cores of the machine."""

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
_WORTH_A_PROCESS = 150
_QUALITY = 92


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
        """Where an image is, or will be."""
        return Path(self.folder, split, species, f"{number:03d}.jpg")

    def numbers(self) -> Iterator[tuple[Split, int]]:
        """Split and number of each image of a species."""
        yield from (("train", number) for number in range(self.train))
        yield from (("test", number) for number in range(self.test))

    def complete(self) -> None:
        """Draw what is missing. May be interrupted at any time, and run by several processes at once.

        Raises:
            OSError: a file or folder cannot be written.
        """
        missing = sum(len(self._missing(index)) for index in range(self.species))
        if missing:
            _log.info("drawing %d birds into %s", missing, self.folder)
            helpers = self._helpers(min(os.cpu_count() or 1, self.species, 1 + missing // _WORTH_A_PROCESS, 16))
            try:
                self.draw(0, 1 + len(helpers))
                for helper in helpers:
                    helper.wait()
            finally:
                for helper in helpers:
                    helper.kill()
                    helper.wait()
            for index in range(self.species):  # what a helper that failed has left
                self._draw_missing(index)

    def draw(self, part: int, parts: int) -> None:
        """Draw what is missing of every `parts`-th species, from number `part` on."""
        mine = range(part, self.species, parts)
        for done, index in enumerate(mine):
            self._draw_missing(index)
            if part == 0 and (done + 1) % max(1, len(mine) // 10) == 0:
                _log.info("drew the birds of %d of %d species", (done + 1) * parts, self.species)

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
            bird_image(self.seed, index, split, number, self.size).save(draft, "JPEG", quality=_QUALITY, subsampling=0)
            draft.replace(target)
        finally:
            with suppress(FileNotFoundError):
                draft.unlink()

    def _helpers(self, parts: int) -> list[subprocess.Popen[bytes]]:
        """Other interpreters rather than a process pool, which would run a caller's unguarded script once more."""
        options = [f"{key}={value}" for key, value in asdict(self).items()]
        commands = [[sys.executable, "-m", __package__ or "", f"{part}/{parts}", *options] for part in range(1, parts)]
        quiet = subprocess.DEVNULL
        return [subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) for command in commands]
