"""Commands that change what was learned: forget classes or images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from scrubjay.cli.app import Folder, app
from scrubjay.cli.terminal import say, working


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
