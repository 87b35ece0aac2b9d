"""Queries that found no match, in groups of images that look alike, as one HTML file that needs nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from scrubjay.report.html import environment, thumbnail, write_page

SHOWN = 24
"""Images of a group on the page; the paths of all of them are listed below it."""


class Asked(Protocol):
    """A query; `scrubjay.search.query_log.Query` is one."""

    @property
    def image(self) -> str | None:
        """Where its file was."""

    @property
    def hits(self) -> Sequence[tuple[str, str, str | None, float | None]]:
        """Id, URI, label and probability of a match of what was found, best first."""


class Found(Protocol):
    """What the last queries say; `scrubjay.search.novelty.Novelty` is one."""

    @property
    def queries(self) -> int:
        """That were looked at, each image once."""

    @property
    def unmatched(self) -> int:
        """Of these."""

    @property
    def expected(self) -> float:
        """Share that is unmatched where nothing is new, at most."""

    @property
    def alarm(self) -> bool:
        """Too many are."""

    @property
    def groups(self) -> Sequence[Sequence[Asked]]:
        """The unmatched queries by likeness, the largest group first."""


def write_novel_page(path: Path, found: Found, catalogue: str = "FOLDER") -> None:
    """Write the page; a file that is there already is replaced only when the new one is complete.

    Args:
        path: of the HTML file; its folder is made.
        found: the queries. Images that cannot be read become empty tiles with their name.
        catalogue: its folder, as the commands on the page name it.

    Raises:
        StorageError: the file cannot be written.
    """
    write_page(path, page(found, catalogue))


def page(found: Found, catalogue: str = "FOLDER") -> str:
    """The text of the page; arguments as in `write_novel_page`."""
    templates = environment()
    templates.filters |= {"thumbnail": _thumbnail, "name": _name, "nearest": _nearest}
    return templates.get_template("novel.html.j2").render(
        found=found,
        groups=[group for group in found.groups if len(group) > 1],
        single=[group[0] for group in found.groups if len(group) == 1],
        shown=SHOWN,
        collect=_collect,
        learn=f"scrubjay learn {shlex.quote(catalogue)} new-classes",
    )


def _thumbnail(query: Asked) -> str | None:
    return None if query.image is None else thumbnail(Path(query.image))


def _name(query: Asked) -> str:
    return "without a file" if query.image is None else Path(query.image).name


def _nearest(query: Asked) -> str:
    """The class of the best hit, as little as it may mean."""
    if not query.hits:
        return "nothing found"
    _, _, label, match = query.hits[0]
    return f"nearest: {label or 'no class'}" + ("" if match is None else f", {match:.0%}")


def _collect(group: Sequence[Asked], number: int) -> str:
    """Shell commands that gather the images of a group as a class; "" where no image has a file."""
    paths = list(dict.fromkeys(query.image for query in group if query.image is not None))
    folder = f"new-classes/class-{number}"
    lines = [
        f"cp {shlex.quote(path)} {shlex.quote(f'{folder}/{place:03}-{Path(path).name}')}"  # names may be there twice
        for place, path in enumerate(paths, 1)
    ]
    return "\n".join([f"mkdir -p {folder}", *lines]) if lines else ""
