"""Images of queries that matched nothing, kept so that somebody can name them and teach them as new classes.

    shop/unknown/<content>    the image file, named by the content hash of the query

Only so many are kept: a new one takes the place of the oldest. A cropped query is kept as its crop.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scrubjay.catalogue import Catalogue
from scrubjay.errors import ImageError, StorageError
from scrubjay.io.atomic import write_file
from scrubjay.search.novelty import WINDOW, message
from scrubjay.search.query_image import QueryImage
from scrubjay.search.query_log import Query
from scrubjay.service.schemas.unknown import UnknownAnswer, UnknownGroup, UnknownQuery

BATCH = 16
"""Number of kept images that are asked again together."""
logger = logging.getLogger(__name__)
_CONTENT = re.compile(r"[0-9a-f]{32}")


class UnknownImages:
    """The kept images of a catalogue; any number of processes may use them.

    Args:
        catalogue: folder of the catalogue.
        number: how many are kept; 0 keeps none.
    """

    def __init__(self, catalogue: Path, number: int) -> None:
        self.folder = catalogue / "unknown"
        self.number = number

    def keep(self, content: str, data: bytes | NDArray[np.uint8]) -> None:
        """Keep the image of a query; the oldest ones make room. Where that fails, a warning is logged.

        Args:
            content: content hash of the query.
            data: the image file; or the pixels uint8 (H, W, 3) of a crop, which is stored as a PNG file.
        """
        if not self.number or (self.folder / content).exists():
            return
        if not isinstance(data, bytes):
            file = io.BytesIO()
            Image.fromarray(data).save(file, "PNG")
            data = file.getvalue()
        try:
            write_file(self.folder / content, data)
        except StorageError as error:  # the query was answered, and this is not worth more than a warning
            logger.warning("%s", error)
        for old in self.contents()[self.number :]:
            self.discard(old)

    def contents(self) -> list[str]:
        """Content hashes of all kept images, the newest first."""
        ages = []
        for path in self.folder.glob("*"):
            if _CONTENT.fullmatch(path.name):
                with suppress(FileNotFoundError):  # another process deletes the oldest too
                    ages.append((path.stat().st_mtime_ns, path.name))
        return [name for _, name in sorted(ages, reverse=True)]

    def read(self, content: str) -> bytes | None:
        """The image file of a query; None where it is not kept."""
        try:
            return (self.folder / content).read_bytes() if _CONTENT.fullmatch(content) else None
        except FileNotFoundError:
            return None

    def kept_at(self, content: str) -> str | None:
        """When a query came in, ISO 8601, UTC; None where its image is not kept."""
        with suppress(FileNotFoundError):
            seconds = (self.folder / content).stat().st_mtime
            return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
        return None

    def discard(self, content: str) -> bool:
        """Delete the image of a query; returns whether it was kept."""
        if not _CONTENT.fullmatch(content):
            return False
        try:
            (self.folder / content).unlink()
        except FileNotFoundError:
            return False
        return True


def unknown_answer(catalogue: Catalogue, images: UnknownImages) -> UnknownAnswer:
    """The kept queries in groups, and whether they look like new classes.

    Queries that an earlier generation answered are asked again: what it did not know, its successor may have learned.
    Those that match now are deleted.
    """
    serving = catalogue.serving.read().generation
    if serving is None:
        return UnknownAnswer(groups=[], message=None)
    kept = images.contents()
    last = _last_answers(catalogue, serving)
    _ask_again(catalogue, images, [content for content in kept[:WINDOW] if content not in last])
    last = _last_answers(catalogue, serving)
    for content in kept:
        if content in last and last[content].matched:
            images.discard(content)
    novelty = catalogue.upkeep.novel()
    if novelty is None:
        return UnknownAnswer(groups=[], message=None)
    groups = [[_record(query, images) for query in group] for group in novelty.groups]
    present = [[record for record in group if record is not None] for group in groups]
    return UnknownAnswer(
        groups=[UnknownGroup(queries=group) for group in present if group],
        message=message(novelty),
    )


def _last_answers(catalogue: Catalogue, generation: str) -> dict[str, Query]:
    """The last answer of a generation to each query, by its content."""
    queries = catalogue.upkeep.searcher.query_log.recent()
    return {query.content: query for query in queries if query.generation == generation}


def _ask_again(catalogue: Catalogue, images: UnknownImages, contents: Sequence[str]) -> None:
    for start in range(0, len(contents), BATCH):
        queries = list(_queries(catalogue, images, contents[start : start + BATCH]))
        if queries:
            catalogue.answer_many(queries)


def _queries(catalogue: Catalogue, images: UnknownImages, contents: Iterable[str]) -> Iterable[QueryImage]:
    for content in contents:
        data = images.read(content)
        if data is None:
            continue
        try:
            image = QueryImage.read(data, catalogue.options.images)
        except ImageError:  # the file was damaged on disk
            images.discard(content)
            continue
        yield QueryImage(content, image.pixels)


def _record(query: Query, images: UnknownImages) -> UnknownQuery | None:
    """What callers see of an unmatched query; None where its image is not kept."""
    time = images.kept_at(query.content)
    if time is None:
        return None
    return UnknownQuery(query=query.content, time=time, nearest=query.hits[0][2] if query.hits else None)
