"""The check of an upload before anything is learned from it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from scrubjay.catalogue import Catalogue
from scrubjay.checks.folder_check import check_photos
from scrubjay.errors import ImageError
from scrubjay.io.atomic import write_file
from scrubjay.service.opened import OpenCatalogue
from scrubjay.service.schemas.uploads import CheckAnswer, CheckFinding
from scrubjay.service.uploads import Upload

_AT_ONCE = 16  # images in memory


async def unreadable(opened: OpenCatalogue, upload: Upload) -> dict[Path, str]:
    """Images of an upload that cannot be decoded, and why; processes that can be killed find out."""
    refused: dict[Path, str] = {}

    async def inspect(path: Path) -> None:
        try:
            await opened.decoder.inspect(await opened.run(path.read_bytes))
        except ImageError as error:
            refused[path.absolute()] = str(error)

    paths = await opened.run(lambda: list(upload.files().values()))
    for start in range(0, len(paths), _AT_ONCE):
        await asyncio.gather(*map(inspect, paths[start : start + _AT_ONCE]))
    return refused


def checked_upload(
    catalogue: Catalogue, upload: Upload, left_out: Sequence[CheckFinding], refused: Mapping[Path, str]
) -> CheckAnswer:
    """Check an upload, and keep what was found beside it.

    Args:
        catalogue: a catalogue that no other thread uses.
        upload: the upload.
        left_out: what was found while it was stored.
        refused: images that cannot be decoded, and why.

    Raises:
        DataError: the upload has not the layout of a folder of classes.
    """
    check = check_photos(upload.images, catalogue.workspace, refused)
    found = [
        CheckFinding(kind=each.kind, message=each.message, images=list(each.images), items=list(each.items))
        for each in check.findings
    ]
    answer = CheckAnswer(
        upload=upload.id,
        images=check.images,
        classes=dict(check.classes),
        new_classes=list(check.new_classes),
        known_classes=list(check.known_classes),
        findings=[*left_out, *found],
    )
    write_file(upload.folder / "check.json", answer.model_dump_json(indent=1).encode())
    return answer
