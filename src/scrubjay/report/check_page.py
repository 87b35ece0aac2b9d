"""Renders what a check of images found, with the images, as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scrubjay.report.html import environment, thumbnail, write_page

FINDINGS = 40
"""Number of findings of a kind that the page shows; the others are counted."""
IMAGES = 8
"""Number of images of a finding that it shows."""
BYTES = 8 * 2**20
"""Size of all images together, from which on names stand for images."""


class Finding(Protocol):
    """One thing that was found; implemented by `scrubjay.checks.folder_check.CheckFinding`."""

    @property
    def kind(self) -> str:
        """What it is."""

    @property
    def message(self) -> str:
        """The same in words."""

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images, relative to the folder, or absolute."""

    @property
    def items(self) -> tuple[str, ...]:
        """Ids of items of the gallery."""


class Check(Protocol):
    """What is in a folder; implemented by `scrubjay.checks.folder_check.FolderCheck`."""

    @property
    def images(self) -> int:
        """Number of images."""

    @property
    def classes(self) -> Mapping[str, int]:
        """Number of readable images by class."""

    @property
    def known_classes(self) -> tuple[str, ...]:
        """Classes that the generation that answers has learned."""

    @property
    def findings(self) -> Sequence[Finding]:
        """What was found, kind after kind."""


@dataclass(frozen=True, slots=True)
class Group:
    """All findings of a kind.

    Attributes:
        title: the kind in words.
        shown: the findings that are shown.
        number: number of all findings.
    """

    title: str
    shown: Sequence[Finding]
    number: int


def write_check_page(path: Path, check: Check, photos: Path, titles: Mapping[str, str]) -> None:
    """Write the page; an existing file is replaced only when the new one is complete.

    Args:
        path: path of the HTML file; its folder is created.
        check: what was found.
        photos: the folder or table that was checked.
        titles: the kinds of findings in words, in the order of the page.

    Raises:
        StorageError: the file cannot be written.
    """
    write_page(path, page(check, photos, titles))


def page(check: Check, photos: Path, titles: Mapping[str, str]) -> str:
    """The HTML text of the page; arguments as in `write_check_page`."""
    room = BYTES

    def small(name: str) -> str | None:
        nonlocal room
        image = thumbnail(photos / name) if room > 0 else None
        room -= len(image or "")
        return image

    groups = []
    for kind, title in titles.items():
        found = [finding for finding in check.findings if finding.kind == kind]
        if found:
            groups.append(Group(title, found[:FINDINGS], len(found)))
    templates = environment()
    templates.filters["thumbnail"] = small
    return templates.get_template("check.html.j2").render(
        check=check, photos=str(photos), groups=groups, shown=IMAGES, counts=sorted(check.classes.values())
    )
