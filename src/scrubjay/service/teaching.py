"""Teaching a class from a few images, in seconds: learned in closed form, judged by its gate, and answering at once.

The class is learned on top of the generation that answers, whatever newer ones wait for their promotion. One class is
taught at a time, in all processes of the service, so that each is learned on top of the one before.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scrubjay.catalogue import Catalogue
from scrubjay.components.accumulation import Accumulation
from scrubjay.data.photos import bytes_hash
from scrubjay.errors import CatalogueError, GateFailedError, ServingChangedError
from scrubjay.generations.generation import Generation
from scrubjay.io.locking import locked
from scrubjay.learning.session import HELD_OUT
from scrubjay.methods import method
from scrubjay.service.gates import keep_gate
from scrubjay.service.schemas.classes import Taught
from scrubjay.service.schemas.items import Refused
from scrubjay.service.staged_images import Split, StagedImage, stage

FEW = 7
"""Of fewer images none is held out: each counts more for learning than for judging."""
ATTEMPTS = 3
"""Number of times that a class is learned where another generation was promoted meanwhile."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """An image that shows a class.

    Attributes:
        data: content of the image file, which was found to be readable.
    """

    data: bytes

    @property
    def content(self) -> str:
        """Its content hash, which is the id of its item."""
        return bytes_hash(self.data)


def teaches(generation: Generation) -> bool:
    """Whether a class can be taught on top of a generation: whether it was learned in closed form."""
    kind = method(str(generation.info.method["name"]))
    return issubclass(kind, Accumulation) and kind.keeps_statistics


def teach(
    catalogue: Catalogue,
    name: str,
    lessons: Sequence[Lesson],
    refused: Sequence[Refused],
    preload: Callable[[str], None],
) -> Taught:
    """Learn a class from images, let the new generation answer if its gate passes, and add the images to the gallery.

    Args:
        catalogue: a catalogue that no other thread uses.
        name: name of the class, new or known.
        lessons: its images.
        refused: images that were sent as well but cannot be used.
        preload: called with the name of the generation before it answers.

    Raises:
        CatalogueError: nothing was learned yet, the catalogue does not learn in closed form, or the serving generation
            was changed again and again meanwhile.
        InUseError: another process writes to the catalogue, or teaches.
        DataError: all images were learned or held out before.
    """
    began = time.perf_counter()
    with locked(catalogue.folder, "teaching.lock"):
        _refuse_unless_taught(catalogue)
        staged = stage(catalogue, "taught", _labelled(name, lessons))
        try:
            generation, reasons = _learned(catalogue, staged.table, preload)
            catalogue.add([staged.table])
        finally:
            staged.discard(catalogue)
    return Taught(
        name=name,
        generation=generation.name,
        images=generation.info.image_count or 0,
        refused=list(refused),
        serving=not reasons,
        gate=list(reasons),
        seconds=round(time.perf_counter() - began, 2),
    )


def _refuse_unless_taught(catalogue: Catalogue) -> None:
    serving = catalogue.serving.read().generation
    if serving is None:
        raise CatalogueError(
            f"{catalogue.folder}: nothing was learned yet, and the first session needs two classes: send their images "
            "with POST /v1/uploads and learn them with POST /v1/jobs."
        )
    generation = catalogue.lineage.get(serving)
    if not teaches(generation):
        raise CatalogueError(
            f"{catalogue.folder}: {serving} was learned with {generation.info.method['name']!r}, which trains a "
            "network for minutes: send the images with POST /v1/uploads and learn them with POST /v1/jobs."
        )


def _learned(catalogue: Catalogue, table: Path, preload: Callable[[str], None]) -> tuple[Generation, tuple[str, ...]]:
    """The generation that learned a table, and why it does not answer; no reasons where it does."""
    for attempt in range(1, ATTEMPTS + 1):
        serving = catalogue.serving.read()
        generation = catalogue.learn(table, start=serving.generation)
        preload(generation.name)
        try:
            report = catalogue.promote(generation.name, expected=serving.revision)
        except GateFailedError as error:
            return generation, error.reasons
        except ServingChangedError:
            if attempt == ATTEMPTS:
                raise
        else:
            keep_gate(catalogue, report)
            return generation, ()
    raise AssertionError("unreachable")


def _labelled(name: str, lessons: Sequence[Lesson]) -> list[StagedImage]:
    """The images of a class, each content once, divided into those that are learned and those that are held out."""
    unique = {lesson.content: lesson for lesson in lessons}
    first = min(unique)
    return [
        StagedImage(content, lesson.data, name, _split(content, len(unique), content == first))
        for content, lesson in unique.items()
    ]


def _split(content: str, number: int, first: bool) -> Split:
    """Which of `number` images are held out to judge later generations, by a hash; never the first one."""
    rank = int.from_bytes(hashlib.blake2b(content.encode(), digest_size=7).digest()) / 2**56
    return "test" if number >= FEW and rank < HELD_OUT and not first else "train"
