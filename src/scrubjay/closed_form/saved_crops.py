"""Features of a pass over a session's images, on disk until the session is stored: an interrupted pass goes on.

The features are stored as they were computed, float16, so a resumed session has the same bits as an uninterrupted one,
whatever its method makes of them. That takes 2·p bytes for each crop: 41 kB an image with the default trunk
(p = 4,128) and four random views.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scrubjay.closed_form.crops import Crops
from scrubjay.errors import CheckpointError
from scrubjay.models.checkpoint import check_key, load_tensors, save_tensors

Identity = dict[str, str | int]
"""What the features of a pass depend on besides the images."""
SECONDS = 10.0
"""Time of work between two writes: the most that a killed process loses."""


@dataclass(frozen=True, slots=True)
class SavedCrops:
    """A folder with a file for each stretch of a pass.

    Attributes:
        folder: the folder; it exists once something was written.
        key: identifies the work; features that were saved under another key are refused.
    """

    folder: Path
    key: str

    def read(self, identity: Identity, first: int) -> tuple[Crops, int] | None:
        """The stretch of a pass that begins at an image.

        Args:
            identity: identity of the pass; features of another one are not returned.
            first: position of the image.

        Returns:
            The features, and the position at which the next stretch begins. None where there is none, or it is damaged,
            so that it is computed again.

        Raises:
            UserError: the features belong to other work.
        """
        path = self._path(identity, first)
        if not path.exists():
            return None
        with suppress(CheckpointError, KeyError, TypeError, ValueError):
            tensors, info = load_tensors(path, "delete it")
            check_key(path, info, self.key)
            if info["identity"] == identity:
                return Crops(**tensors), int(info["end"])
        return None

    def save(self, crops: Crops, identity: Identity, first: int, end: int) -> None:
        """Write a stretch of a pass, from the image `first` up to, not including, `end`.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        info = {"key": self.key, "identity": identity, "end": end}
        save_tensors(self._path(identity, first), crops._asdict(), info)

    def _path(self, identity: Identity, first: int) -> Path:
        return self.folder / f"{identity['views']}-{first:09d}.safetensors"


def saving(crops: Iterator[Crops], saved: SavedCrops, identity: Identity, first: int, images: int) -> Iterator[Crops]:
    """The same batches, saved from time to time, and when the work is interrupted.

    Args:
        crops: batches of a pass.
        saved: the folder.
        identity: see `SavedCrops.read`.
        first: position of the first image of the batches.
        images: number of images of each batch.
    """
    pending: list[Crops] = []
    began, written, complete = time.monotonic(), first > 0, False

    def write() -> None:
        nonlocal pending, first, began, written
        end = (int(pending[-1].positions[-1]) // images + 1) * images
        saved.save(Crops.joined(pending), identity, first, end)
        pending, first, began, written = [], end, time.monotonic(), True

    try:
        for batch in crops:
            pending.append(batch)
            yield batch
            if time.monotonic() - began >= SECONDS:
                write()
        complete = True
    finally:
        if pending and (written or not complete):  # a pass that took less time than that is not worth a file
            write()
