"""The items of the gallery: list, add, look at, change and remove them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, File, Form, Path, Query, UploadFile
from pydantic import TypeAdapter

from scrubjay.catalogue import Catalogue
from scrubjay.errors import ImageError
from scrubjay.inventory.sent_images import AddedImages, SentImage
from scrubjay.service import images as sending
from scrubjay.service.dependencies import Opened, Reader, Writer
from scrubjay.service.forms import parsed
from scrubjay.service.opened import OpenCatalogue
from scrubjay.service.problems import not_found, problems
from scrubjay.service.schemas.base import Metadata
from scrubjay.service.schemas.items import AddAnswer, ItemChange, ItemIds, ItemPage, ItemRecord, Refused, Removed
from scrubjay.service.writing import when_free
from scrubjay.stores import Item

router = APIRouter(prefix="/v1", tags=["items"])

LIMIT = 1000
"""Largest number of images that are added at once."""
_METADATA: TypeAdapter[Metadata] = TypeAdapter(Metadata)
ItemId = Annotated[str, Path(min_length=1, max_length=500, description="Id of the item.")]


@router.get("/items", dependencies=Reader)
async def list_items(
    opened: Opened,
    cursor: Annotated[str | None, Query(max_length=500, description="That of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Largest number of items.")] = 100,
    label: Annotated[
        list[str] | None, Query(max_length=1000, description="Only items with one of these labels.")
    ] = None,
    where: Annotated[
        str, Query(description="Only items with all these metadata, as JSON.", examples=['{"colour": "red"}'])
    ] = "{}",
) -> ItemPage:
    """A page of items in the order of their ids."""
    metadata = parsed(_METADATA, where, "query", "where")
    page = await opened.run(opened.catalogue.inventory.items, cursor, limit, label, metadata)
    return ItemPage(items=[_record(item) for item in page.items], cursor=page.cursor)


@router.post("/items", status_code=201, dependencies=Writer, responses=problems(409))
async def add_items(
    opened: Opened,
    images: Annotated[list[UploadFile], File(min_length=1, max_length=LIMIT, description="Image files.")],
    label: Annotated[str | None, Form(max_length=200, description="Label of all of them.")] = None,
    metadata: Annotated[
        str, Form(description="Metadata of all of them, as JSON.", examples=['{"colour": "red"}'])
    ] = "{}",
) -> AddAnswer:
    """Add images to the gallery; the same image twice is one item."""
    values = parsed(_METADATA, metadata, "body", "metadata")
    limit = opened.options.image_mb * 2**20
    taken, refused = await _readable(opened, [await sending.sent_file(image, limit) for image in images])
    if not taken:
        return AddAnswer(added=[], known=0, refused=refused)

    def add(catalogue: Catalogue) -> AddedImages:
        return catalogue.inventory.add_images(taken, label, values)

    added = await when_free(opened, lambda: opened.background.run(add))
    refused += [Refused(name=name, reason=reason) for name, reason in added.failures]
    return AddAnswer(added=[_record(item) for item in added.items], known=added.known, refused=refused)


@router.post("/items/delete", dependencies=Writer, responses=problems(409))
async def delete_items(opened: Opened, ids: ItemIds) -> Removed:
    """Remove items; ids without an item are ignored. What was learned from their images stays: see forgetting."""
    remove = partial(opened.run, opened.catalogue.inventory.remove_items, ids.ids)
    return Removed(removed=await when_free(opened, remove))


@router.get("/items/{id}", dependencies=Reader, responses=problems(404))
async def get_item(opened: Opened, id: ItemId) -> ItemRecord:
    """An item."""
    return _record(await opened.run(opened.catalogue.inventory.item, id))


@router.patch("/items/{id}", dependencies=Writer, responses=problems(404, 409))
async def change_item(opened: Opened, id: ItemId, change: ItemChange) -> ItemRecord:
    """Change the label or the metadata of an item."""
    write = partial(opened.run, opened.catalogue.inventory.change_item, id, change.label, change.metadata)
    return _record(await when_free(opened, write))


@router.delete("/items/{id}", dependencies=Writer, responses=problems(404, 409))
async def delete_item(opened: Opened, id: ItemId) -> Removed:
    """Remove an item. What was learned from its image stays: see forgetting."""
    removed = await when_free(opened, partial(opened.run, opened.catalogue.inventory.remove_items, [id]))
    if not removed:
        raise not_found(f"There is no item {id[:100]!r}.")
    return Removed(removed=removed)


def _record(item: Item) -> ItemRecord:
    return ItemRecord(id=item.id, label=item.label, metadata=dict(item.metadata))


async def _readable(opened: OpenCatalogue, sent: Sequence[sending.SentImage]) -> tuple[list[SentImage], list[Refused]]:
    """The images that can be decoded, which a process of its own finds out, and the others with the reason."""

    async def one(image: sending.SentImage) -> SentImage | Refused:
        try:
            await opened.decoder.inspect(image.data, image.declared)
        except ImageError as error:
            return Refused(name=image.name, reason=str(error))
        return SentImage(image.name, image.data)

    found = await asyncio.gather(*(one(image) for image in sent))
    return [each for each in found if isinstance(each, SentImage)], [
        each for each in found if isinstance(each, Refused)
    ]
