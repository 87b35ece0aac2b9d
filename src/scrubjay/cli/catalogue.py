"""Commands of a catalogue: make it, let it learn, fill it, search it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrubjay.cli.app import Folder, Settings, app
from scrubjay.terminal import learned, report_failures, say, working

if TYPE_CHECKING:
    from scrubjay.catalogue import Catalogue


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    backbone: Annotated[str | None, typer.Option(help="Any timm model; see `scrubjay backbones`.")] = None,
    run: Annotated[Path | None, typer.Option("--from", help="Start with the generations of a finished run.")] = None,
    settings: Settings = None,
) -> None:
    """Make a catalogue: a folder that learns."""
    from scrubjay.catalogue import Catalogue, CatalogueOptions
    from scrubjay.config import override

    values: dict[str, Any] = {}
    if run is not None:
        from scrubjay.config import read_json

        config = read_json(run / "config.json")
        values = {key: config[key] for key in CatalogueOptions.model_fields if key in config}
    if backbone is not None:
        values = override(values, [f"network.backbone={backbone}"])
    Catalogue.init(folder, CatalogueOptions.parse(override(values, settings or []), "init"), run)
    say(f"made {folder}. Next: scrubjay {'learn' if run is None else 'add'} {folder} PHOTOS")


@app.command()
def learn(
    folder: Folder,
    photos: Annotated[Path, typer.Argument(help="Folder with a sub-folder for each class, or a CSV or Parquet table.")],
    method: Annotated[
        str | None,
        typer.Option(help="How old classes are kept; see `scrubjay methods`. Default: as last time."),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Put the pictures into the gallery as well.")] = False,
    settings: Settings = None,
) -> None:
    """Learn new classes; the pictures of old ones may be gone. Makes the next generation."""
    from scrubjay.catalogue import Catalogue
    from scrubjay.config import override

    catalogue = Catalogue(folder)
    with working():
        generation = catalogue.learn(photos, method, override({}, settings or []))
    say(learned(generation))
    report_failures(generation.info["broken"])
    if add:
        _add(catalogue, [photos], f"`scrubjay add {folder} {photos}`")


@app.command()
def add(
    folder: Folder,
    photos: Annotated[list[Path], typer.Argument(help="Folders, tables or single pictures.")],
) -> None:
    """Put pictures into the gallery."""
    from scrubjay.catalogue import Catalogue

    _add(Catalogue(folder), photos)


@app.command()
def remove(
    folder: Folder, ids: Annotated[list[str], typer.Argument(help="Ids, as `search --json` shows them.")]
) -> None:
    """Take items out of the gallery."""
    from scrubjay.catalogue import Catalogue

    say(f"removed {Catalogue(folder).remove(ids)} of {len(ids)} items.")


@app.command()
def search(
    folder: Folder,
    picture: Annotated[Path, typer.Argument(help="The query.")],
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 5,
    label: Annotated[list[str] | None, typer.Option(help="Only items of this class; repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the pictures most like one."""
    from dataclasses import asdict

    from scrubjay.catalogue import Catalogue

    hits = Catalogue(folder).search(picture, k, label)
    if as_json:
        print(json.dumps([asdict(hit) for hit in hits], indent=1))
        return
    width = max((len(hit.label or "–") for hit in hits), default=0)
    for rank, hit in enumerate(hits, 1):
        say(f"{rank:>3}  {hit.score:6.3f}  {hit.label or '–':<{width}}  {hit.uri}")
    if not hits:
        say(f"no item of class {' or '.join(label or [])} in the gallery.")


@app.command()
def status(folder: Folder) -> None:
    """Generations, classes, items per generation, and what was measured."""
    from scrubjay.catalogue import Catalogue

    catalogue = Catalogue(folder)
    answering = catalogue.gallery.answering_space() if catalogue.gallery.count() else None
    counts = catalogue.gallery.counts()
    say(f"{folder}: {catalogue.gallery.count()} items, backbone {catalogue.options.network.backbone}")
    for generation in catalogue.lineage.generations():
        mark = "  ← answers queries" if answering and answering.generation == generation.name else ""
        say(f"{learned(generation)}; {counts.get(generation.name, 0)} items{mark}")
    if catalogue.interrupted():
        say("an interrupted learning waits: give the same `scrubjay learn` again to finish it.")
    if catalogue.lineage.newest is None:
        say(f"nothing learned yet: scrubjay learn {folder} PHOTOS")
    elif answering and answering.generation != catalogue.lineage.newest.name:
        say(
            f"to let {catalogue.lineage.newest.name} answer, add the older pictures again: scrubjay add {folder} PHOTOS"
        )


def _add(catalogue: Catalogue, photos: list[Path], again: str = "the same command") -> None:
    with working(again):
        added = catalogue.add(photos)
    say(f"{added.items} items of these pictures are in the gallery, which holds {catalogue.gallery.count()}.")
    report_failures(added.failures)
