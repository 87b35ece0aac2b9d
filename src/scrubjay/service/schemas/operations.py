"""Bodies about the state of the catalogue and of the service."""

from __future__ import annotations

from scrubjay.service.schemas.base import Record, Scope


class CatalogueRecord(Record):
    """The catalogue in figures, and what the caller may do."""

    name: str
    items: int
    unembedded: int
    classes: int
    serving: str | None
    revision: int
    scopes: list[Scope]
    """What the caller's key allows; everything where the service runs without keys."""
    keys_required: bool
    teaches: bool
    """Whether a class can be taught in seconds, because the catalogue learns in closed form."""
    explains: bool
    """Whether hits can be explained."""
    false_match_rate: float
    version: str


class Ready(Record):
    """Whether the service answers queries."""

    ready: bool
    detail: str
