"""The images that requests name: sent in base64 or as files, or the images of items."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import UploadFile

from scrubjay.data.images import Box
from scrubjay.data.photos import bytes_hash
from scrubjay.errors import ImageError
from scrubjay.gallery.items import sample_of
from scrubjay.search.query_image import QueryImage
from scrubjay.service.opened import OpenCatalogue
from scrubjay.service.problems import ProblemError, image_refused, not_found
from scrubjay.service.schemas import search as schemas
from scrubjay.service.schemas.problems import FieldError
from scrubjay.stores import Item
from scrubjay.types import Sample

JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}, "description": "The image."}
}
"""`responses` of a route that sends an image; its `response_class` is `Response`."""


@dataclass(frozen=True, slots=True)
class SentImage:
    """An image as it was sent.

    Attributes:
        name: how messages name it.
        data: content of the file.
        crop: left, top, right, bottom; None for all of it.
        declared: media type that it was sent with, if any.
    """

    name: str
    data: bytes
    crop: Box | None = None
    declared: str | None = None


async def named_images(opened: OpenCatalogue, images: Sequence[schemas.QueryImage]) -> list[SentImage]:
    """The images that a JSON body names.

    Raises:
        ProblemError: one is neither base64 nor an item, or the item or its file does not exist.
    """
    return [await named_image(opened, image, f"images.{number}") for number, image in enumerate(images)]


async def named_image(opened: OpenCatalogue, image: schemas.QueryImage, field: str) -> SentImage:
    """The image that one entry of a JSON body names; `field` is its place in the body."""
    if image.item is not None:
        item = await find_item(opened, image.item)
        data, box = await item_file(opened, item)
        return SentImage(field, data, image.crop or box)
    try:
        data = await opened.run(_from_base64, image.base64 or "")
    except (binascii.Error, UnicodeEncodeError):
        raise _invalid(f"{field}.base64", "not base64; send the file's content, without a data: prefix") from None
    return SentImage(field, data, image.crop)


async def sent_file(file: UploadFile, limit: int, crop: Box | None = None) -> SentImage:
    """An uploaded file; at most `limit` bytes and one more are read, so that it is refused if it is larger."""
    name = Path((file.filename or "image").replace("\\", "/")).name or "image"
    return SentImage(name, await file.read(limit + 1), crop, file.content_type)


async def decoded(opened: OpenCatalogue, images: Sequence[SentImage]) -> list[QueryImage]:
    """The images decoded, at the same time as far as there are processes.

    Raises:
        ProblemError: one is refused.
    """

    async def one(image: SentImage) -> QueryImage:
        try:
            return await opened.decoder.decode(image.data, image.crop, image.declared)
        except ImageError as error:
            raise image_refused(f"{image.name}: {error}") from None

    return list(await asyncio.gather(*(one(image) for image in images)))


async def find_item(opened: OpenCatalogue, name: str) -> Item:
    """The item with an id.

    Raises:
        ProblemError: there is none (404).
    """
    found = await opened.run(lambda: list(opened.catalogue.gallery.store.items([name])))
    if not found:
        raise not_found(f"There is no item {name[:100]!r}.")
    return found[0]


async def item_file(opened: OpenCatalogue, item: Item) -> tuple[bytes, Box | None]:
    """The image file of an item, as it was added, and the box that it is cropped to.

    Raises:
        ProblemError: the file is missing or has changed (410).
    """
    sample = sample_of(item)
    data = await opened.run(_unchanged, sample, item.content_hash)
    if data is None:
        raise ProblemError(
            410, "gone", "The image is gone", f"The image file of item {item.id!r} is missing or has changed."
        )
    return data, sample.box


def _unchanged(sample: Sample, content: str) -> bytes | None:
    """The content of an image file; None where it cannot be read or is not the one with this hash."""
    try:
        data = sample.path.read_bytes()
    except OSError:
        return None
    return data if bytes_hash(data, sample.box) == content else None


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii"), validate=True)


def _invalid(field: str, message: str) -> ProblemError:
    errors = [FieldError(field=f"body.{field}", message=message)]
    return ProblemError(
        422, "invalid-request", "The request is not as required", f"body.{field}: {message}.", errors=errors
    )
