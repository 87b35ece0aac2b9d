"""Bodies about items of the gallery."""

from __future__ import annotations

from pydantic import Field

from scrubjay.service.schemas.base import Body, Metadata, Record


class ItemRecord(Record):
    """An item of the gallery."""

    id: str
    label: str | None
    metadata: Metadata


class ItemPage(Record):
    """Some items in the order of their ids."""

    items: list[ItemRecord]
    cursor: str | None
    """Where the next page begins; None at the end."""


class ItemChange(Body):
    """What to change of an item; what is left out stays."""

    label: str | None = None
    """New label."""
    metadata: Metadata | None = None
    """New metadata, in place of all the old ones."""


class ItemIds(Body):
    """Items to remove."""

    ids: list[str] = Field(min_length=1, max_length=10_000)


class Removed(Record):
    """How many items were removed."""

    removed: int


class Refused(Record):
    """An image that was not taken."""

    name: str
    """File name as sent."""
    reason: str


class AddAnswer(Record):
    """What was added to the gallery."""

    added: list[ItemRecord]
    known: int
    """How many of the images were items already."""
    refused: list[Refused]
