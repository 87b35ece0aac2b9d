"""Renders unmatched queries, in groups of similar images, as one self-contained HTML file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from scrubjay.report.html import environment, thumbnail, write_page

SHOWN = 24
"""Number of images of a group that the page shows; the paths of all of them are listed below it."""


class LoggedQuery(Protocol):
    """A query; implemented by `scrubjay.search.query_log.Query`."""

    @property
    def image(self) -> str | None:
        """Path of the image file; None for an image without a file."""

    @property
    def hits(self) -> Sequence[tuple[str, str, str | None, float | None]]:
        """Id, URI, label and probability of a match of each hit, best first."""


class UnmatchedQueries(Protocol):
    """What the newest queries say about new classes; implemented by `scrubjay.search.novelty.Novelty`."""

    @property
    def queries(self) -> int:
        """Number of queries that were examined; each image counts once."""

    @property
    def unmatched(self) -> int:
        """Number of unmatched queries among them."""

    @property
    def expected(self) -> float:
        """Largest share of unmatched queries that is expected if no class is new; 1 where it is not known."""

    @property
    def alarm(self) -> bool:
        """More queries are unmatched than chance explains."""

    @property
    def groups(self) -> Sequence[Sequence[LoggedQuery]]:
        """The unmatched queries in groups of similar images, the largest group first."""


def write_novel_page(path: Path, novelty: UnmatchedQueries, catalogue: str = "FOLDER") -> None:
    """Write the page; an existing file is replaced only when the new one is complete.

    Args:
        path: path of the HTML file; its folder is created.
        novelty: the unmatched queries. Images that cannot be read become empty tiles with their name.
        catalogue: folder of the catalogue, for the commands on the page.

    Raises:
        StorageError: the file cannot be written.
    """
    write_page(path, page(novelty, catalogue))


def page(novelty: UnmatchedQueries, catalogue: str = "FOLDER") -> str:
    """The HTML text of the page; arguments as in `write_novel_page`."""
    templates = environment()
    templates.filters |= {"thumbnail": _thumbnail, "name": _name, "nearest": _nearest}
    return templates.get_template("novel.html.j2").render(
        novelty=novelty,
        groups=[group for group in novelty.groups if len(group) > 1],
        single=[group[0] for group in novelty.groups if len(group) == 1],
        shown=SHOWN,
        collect=_collect,
        learn=f"scrubjay learn {shlex.quote(catalogue)} new-classes",
    )


def _thumbnail(query: LoggedQuery) -> str | None:
    return None if query.image is None else thumbnail(Path(query.image))


def _name(query: LoggedQuery) -> str:
    return "without a file" if query.image is None else Path(query.image).name


def _nearest(query: LoggedQuery) -> str:
    """The class of the best hit, which is unlikely to be that of the query."""
    if not query.hits:
        return "nothing found"
    _, _, label, match = query.hits[0]
    return f"nearest: {label or 'no class'}" + ("" if match is None else f", {match:.0%}")


def _collect(group: Sequence[LoggedQuery], number: int) -> str:
    """Shell commands that copy the images of a group into a folder; "" where no image has a file."""
    paths = list(dict.fromkeys(query.image for query in group if query.image is not None))
    folder = f"new-classes/class-{number}"
    lines = [  # numbered, because several files may have the same name
        f"cp {shlex.quote(path)} {shlex.quote(f'{folder}/{place:03}-{Path(path).name}')}"
        for place, path in enumerate(paths, 1)
    ]
    return "\n".join([f"mkdir -p {folder}", *lines]) if lines else ""
