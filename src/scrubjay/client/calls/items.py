"""Requests about items of the gallery."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from scrubjay.client.call import Call, Image, Part, answer_of, file_part, raw
from scrubjay.service.schemas.base import MetadataValue
from scrubjay.service.schemas.items import AddAnswer, ItemChange, ItemIds, ItemPage, ItemRecord, Removed


def items(
    cursor: str | None = None,
    *,
    limit: int | None = None,
    labels: Sequence[str] = (),
    where: Mapping[str, MetadataValue] | None = None,
) -> Call[ItemPage]:
    """One page of the items, in the order of their ids; `all_items` goes through all pages.

    Args:
        cursor: where the page begins, from the page before; None for the first.
        limit: number of items of a page; None for that of the service.
        labels: only items with one of these labels; empty for all.
        where: only items whose metadata have all these values.
    """
    query = {
        "cursor": cursor,
        "limit": limit,
        "label": list(labels),
        "where": json.dumps(dict(where)) if where else None,
    }
    return Call("GET", "/v1/items", answer_of(ItemPage), query=query)


def add_items(
    images: Sequence[Image], *, label: str | None = None, metadata: Mapping[str, MetadataValue] | None = None
) -> Call[AddAnswer]:
    """Add images to the gallery; the service keeps their files.

    Args:
        images: paths, contents or open files.
        label: label of all of them.
        metadata: metadata of all of them.

    Raises:
        DataError: there is no file at a path.
    """
    parts = [file_part("images", image, number=number) for number, image in enumerate(images)]
    if label is not None:
        parts.append(Part("label", label))
    if metadata is not None:
        parts.append(Part("metadata", json.dumps(dict(metadata))))
    # An image is an item by its content, so adding it twice changes nothing.
    return Call("POST", "/v1/items", answer_of(AddAnswer), parts=tuple(parts), slow=True)


def item(id: str) -> Call[ItemRecord]:
    """One item by its id."""
    return Call("GET", "/v1/items/{id}", answer_of(ItemRecord), {"id": id})


def change_item(
    id: str, *, label: str | None = None, metadata: Mapping[str, MetadataValue] | None = None
) -> Call[ItemRecord]:
    """Change the label or all metadata of an item; what is left out stays.

    Args:
        id: id of the item.
        label: new label.
        metadata: new metadata, in place of all the old ones.
    """
    given = {"label": label, "metadata": None if metadata is None else dict(metadata)}
    change = ItemChange.model_validate({name: value for name, value in given.items() if value is not None})
    return Call("PATCH", "/v1/items/{id}", answer_of(ItemRecord), {"id": id}, body=change)


def remove_item(id: str) -> Call[Removed]:
    """Remove an item from the gallery."""
    return Call("DELETE", "/v1/items/{id}", answer_of(Removed), {"id": id}, repeatable=False)


def remove_items(ids: Sequence[str]) -> Call[Removed]:
    """Remove items from the gallery; ids that it does not hold are passed over."""
    return Call("POST", "/v1/items/delete", answer_of(Removed), body=ItemIds(ids=list(ids)), repeatable=False)


def item_image(id: str, *, side: int | None = None) -> Call[bytes]:
    """The image of an item as the content of a JPEG file.

    Args:
        id: id of the item.
        side: length of its longer side in pixels, up to 2048; None for that of the service.
    """
    return Call("GET", "/v1/items/{id}/image", raw, {"id": id}, {"side": side})
