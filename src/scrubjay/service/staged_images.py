"""Images on their way into a catalogue: stored where items have theirs, with a table by which they are learned.

    shop/images/ab/<content>.<extension>    the images
    shop/images/.<name>.csv                 a row for each: path, label, split

What is learned from the table and what is added from it names the same files, so that forgetting finds both.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scrubjay.catalogue import Catalogue
from scrubjay.errors import ImageError
from scrubjay.generations.generation import Generation
from scrubjay.io.atomic import write_file

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class StagedImage:
    """An image that is to be learned or held out.

    Attributes:
        name: what messages call it.
        data: content of the image file.
        label: name of its class.
        split: whether it is learned, or held out to judge later generations.
    """

    name: str
    data: bytes
    label: str
    split: Split


@dataclass(frozen=True, slots=True)
class StagedImages:
    """Images that were stored.

    Attributes:
        table: path of their table.
        paths: paths of the images, by content hash.
        refused: name and reason of each that is no image.
    """

    table: Path
    paths: dict[str, Path]
    refused: tuple[tuple[str, str], ...]

    def discard(self, catalogue: Catalogue) -> None:
        """Delete the table, and the images that did not become items."""
        self.table.unlink(missing_ok=True)
        kept = {item.id for item in catalogue.gallery.store.items(list(self.paths))}
        catalogue.workspace.images.remove(self.paths.keys() - kept)


def stage(catalogue: Catalogue, name: str, sent: Iterable[StagedImage]) -> StagedImages:
    """Store images; the same call again has no effect.

    Args:
        catalogue: the catalogue.
        name: names the table.
        sent: the images.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    images = catalogue.workspace.images
    rows = io.StringIO(newline="")
    writer = csv.writer(rows)
    writer.writerow(("path", "label", "split"))
    paths: dict[str, Path] = {}
    refused = []
    for image in sent:
        try:
            path = images.put(image.data)
        except ImageError as error:
            refused.append((image.name, str(error)))
            continue
        paths[path.stem] = path
        writer.writerow((path.relative_to(images.folder), image.label, image.split))
    table = images.folder / f".{name}.csv"
    write_file(table, rows.getvalue().encode())
    return StagedImages(table, paths, tuple(refused))


def learned_from(catalogue: Catalogue, paths: Collection[str], before: Collection[str]) -> Generation | None:
    """The generation that was learned from some images; None where there is none yet.

    Args:
        catalogue: the catalogue.
        paths: paths of the images.
        before: names of generations that were there before the images were sent.
    """
    for generation in reversed(catalogue.lineage.generations()):
        train = None if generation.name in before else catalogue.lineage.embeddings(generation).train
        if train is not None and not set(train.paths).isdisjoint(paths):
            return generation
    return None
