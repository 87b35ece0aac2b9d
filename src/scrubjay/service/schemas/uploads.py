"""Bodies about uploads, which are checked before anything is learned from them."""

from __future__ import annotations

from typing import Literal

from scrubjay.service.schemas.base import Record


class CheckFinding(Record):
    """One thing that the check of a folder found."""

    kind: Literal["unreadable", "duplicate", "near_duplicate", "known", "tiny_class", "suspected_label"]
    message: str
    images: list[str]
    """Names of the images inside the upload."""
    items: list[str]
    """Ids of items of the gallery that it concerns."""


class CheckAnswer(Record):
    """What is in an upload, before anything is learned from it."""

    upload: str
    """Identity of the upload."""
    images: int
    classes: dict[str, int]
    """Number of readable images by class."""
    new_classes: list[str]
    known_classes: list[str]
    findings: list[CheckFinding]
