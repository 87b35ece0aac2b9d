"""The request to forget classes and images: it is on disk from before the first removal until the last one is done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from scrubjay.errors import CatalogueError, CheckpointError
from scrubjay.io.atomic import write_json


@dataclass(frozen=True, slots=True)
class RemovalRequest:
    """What is to be forgotten, and what was found of it before anything was removed.

    Attributes:
        classes: names of the classes.
        images: content hashes of single images, which are also the ids of items.
        contents: content hashes of all images that are removed, those of the classes included.
        paths: paths of the images, as far as they are known.
        counts: what was found, by place.
        successors: names of the generations that are made, by the name of the generation that each replaces.
        involved: names of the generations whose session learned from the removed images.
    """

    classes: tuple[str, ...]
    images: tuple[str, ...]
    contents: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    successors: Mapping[str, str] = field(default_factory=dict)
    involved: tuple[str, ...] = ()

    def concerns(self, label: str | None, content: str) -> bool:
        """Whether an image is to be forgotten, by the name of its class or by its content hash."""
        return label in self.classes or content in self.images

    def save(self, folder: Path) -> None:
        """Write the request to the folder of a catalogue.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        write_json(_path(folder), asdict(self))

    @classmethod
    def pending(cls, folder: Path) -> RemovalRequest | None:
        """The request of a catalogue that is not finished; None where there is none.

        Raises:
            CheckpointError: its file is damaged.
        """
        path = _path(folder)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                tuple(values["classes"]),
                tuple(values["images"]),
                tuple(values["contents"]),
                tuple(values["paths"]),
                dict(values["counts"]),
                dict(values["successors"]),
                tuple(values["involved"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}: damaged ({error}): delete it and repeat the `scrubjay forget` that was interrupted."
            ) from None

    @staticmethod
    def finish(folder: Path) -> None:
        """Delete the request of a catalogue: everything was removed."""
        _path(folder).unlink(missing_ok=True)

    @classmethod
    def refuse_pending(cls, folder: Path) -> None:
        """Make sure that no request is unfinished.

        Raises:
            CatalogueError: one is.
        """
        pending = cls.pending(folder)
        if pending is not None:
            raise CatalogueError(f"{folder}: a removal was interrupted; finish it first: {pending.command(folder)}")

    def command(self, folder: Path) -> str:
        """The command that finishes the request."""
        return " ".join(["scrubjay forget", str(folder), *self.classes, *(f"--image {name}" for name in self.images)])


def _path(folder: Path) -> Path:
    return folder / "forgetting.json"
