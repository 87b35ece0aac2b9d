"""Commands that change what was learned: forget classes or images, merge catalogues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from scrubjay.cli.app import Folder, app
from scrubjay.cli.terminal import report_failures, say, warn, working


@app.command()
def forget(
    folder: Folder,
    classes: Annotated[list[str] | None, typer.Argument(metavar="[CLASS]...", help="Names of classes.")] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE_OR_ID", help="Forget a single image, by its file or the id of its item. Repeatable."
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option("--images", metavar="FOLDER", help="The images, where their features are not stored."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Forget classes or images: what was learned from them, and all that is stored of them. It cannot be undone."""
    from scrubjay.catalogue import Catalogue

    with working():
        report = Catalogue(folder).upkeep.forget(classes or (), image or (), photos)
    if as_json:
        print(json.dumps(report.to_json(), indent=1))
    else:
        say("\n".join(report.lines()))


@app.command()
def merge(
    first: Annotated[Path, typer.Argument(help="Folder of a catalogue, whose options the new one takes.")],
    second: Annotated[Path, typer.Argument(help="Folder of a catalogue over the same trunk.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder of the new catalogue.")],
) -> None:
    """Make one catalogue of two: what both have learned, their items and probe images. Both stay as they are."""
    from scrubjay.catalogue import Catalogue

    with working(f"`scrubjay backfill {out}`, if {out} exists, or else the same command"):
        merged = Catalogue(first).upkeep.merge(Catalogue(second).workspace, out)
        say(f"{out}: {merged.generation} has learned {merged.classes} classes, {len(merged.shared)} of them from both.")
        if merged.repeated:
            say(f"{merged.repeated} training images were in both catalogues.")
        if merged.left_out:
            warn(f"{merged.left_out} probe images were left out, because only their embeddings are kept.")
        result = Catalogue(out).backfill()
    say(f"{merged.items} items are only from {second}. {result.done} items were embedded by {merged.generation}.")
    report_failures([(uri, reason) for _, uri, reason in result.skipped])
    say(f"{merged.generation} answers queries in {out}.")
