"""Commands that create a catalogue, let it learn, and fill it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrubjay.cli.app import Folder, Settings, app
from scrubjay.cli.search import warn_of_new_classes
from scrubjay.cli.terminal import report_failures, say, working
from scrubjay.errors import ConfigError

if TYPE_CHECKING:
    from scrubjay.catalogue import Catalogue


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the new catalogue.")],
    backbone: Annotated[
        str | None,
        typer.Option(help="Name of a timm model, see `scrubjay backbones`; or hf-hub:OWNER/NAME, or local-dir:FOLDER."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="PATH", help="File or folder of weights, in place of those of timm.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="SHA-256 that the file of weights must have.")
    ] = None,
    run: Annotated[Path | None, typer.Option("--from", help="Import the generations of a finished run.")] = None,
    settings: Settings = None,
) -> None:
    """Create a catalogue, a folder that holds generations of a model and a gallery of images."""
    from scrubjay.catalogue import Catalogue
    from scrubjay.config import override
    from scrubjay.workspace.options import CatalogueOptions

    values: dict[str, Any] = {}
    if run is not None:
        from scrubjay.config import read_json

        config = read_json(run / "config.json")
        values = {key: config[key] for key in CatalogueOptions.model_fields if key in config}
        values["network"] = {"features": "last", **config.get("network", {})}  # older runs knew no others
    given = {"backbone": backbone, "weights": weights and str(weights), "sha256": sha256 and sha256.lower()}
    named = {key: value for key, value in given.items() if value is not None}
    if named:
        values["network"] = {**values.get("network", {}), **named}
    Catalogue.init(folder, CatalogueOptions.parse(override(values, settings or []), "init"), run)
    say(f"created {folder}. Next: scrubjay {'learn' if run is None else 'add'} {folder} PHOTOS")


@app.command()
def learn(
    folder: Folder,
    photos: Annotated[
        Path, typer.Argument(help="Folder with one sub-folder for each class, or a CSV or Parquet table.")
    ],
    method: Annotated[
        str | None,
        typer.Option(
            help="Method that prevents forgetting. See `scrubjay methods`. Default: the method of the last session."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="GENERATION", help="Generation to train further. Default: the newest."),
    ] = None,
    adapt: Annotated[
        str | None,
        typer.Option(
            help="Train the backbone in a first session: never, first, or auto, where it gains. Default: never."
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Number of processes that learn together; the result is that of one process.")
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Compute features on a Ray cluster at this address, or on 'local'; closed form only.",
        ),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Add the images to the gallery as well.")] = False,
    settings: Settings = None,
) -> None:
    """Learn new classes, or more images of known ones, without the images of old ones.

    The new generation does not answer queries yet.
    """
    from scrubjay.catalogue import Catalogue
    from scrubjay.config import override
    from scrubjay.learning.adaptation_cost import adaptation_seconds
    from scrubjay.report.lineage_tree import described

    catalogue = Catalogue(folder)
    chosen = override({} if adapt is None else {"adapt": adapt}, settings or [])
    offer = None
    if adapt not in (None, "never"):
        say(f"training the backbone takes {_duration(adaptation_seconds(catalogue.workspace, photos))} or more.")
    elif adapt is None and catalogue.lineage.newest is None:
        offer = _duration(adaptation_seconds(catalogue.workspace, photos))
    with working():
        generation = catalogue.learn(photos, method, chosen, start, processes, ray)
    say(described(generation))
    if offer is not None and generation.info.method.get("adapt") == "never":
        say(f"its backbone was not trained; a new catalogue tries that with --adapt auto, in {offer} or more.")
    if generation.info.extended_classes:
        say(f"more images of {len(generation.info.extended_classes)} known classes were learned.")
    if generation.info.known_images:
        say(f"{generation.info.known_images} images were left out, because they were learned or held out before.")
    if not add:  # adding reads the same images, and lists those that cannot be decoded
        report_failures(generation.info.broken)
    serving = catalogue.serving.read().generation
    if serving != generation.name:
        say(f"{serving} still answers queries. Next: scrubjay gate {folder} {generation.name}")
    if add:
        _add(catalogue, [photos], f"`scrubjay add {folder} {photos}`")


@app.command()
def add(
    folder: Folder,
    photos: Annotated[list[Path], typer.Argument(help="Folders, tables or single images.")],
) -> None:
    """Add images to the gallery."""
    from scrubjay.catalogue import Catalogue

    _add(Catalogue(folder), photos)


@app.command()
def remove(
    folder: Folder,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of the items, as `search --json` prints them.")] = None,
    gone: Annotated[
        bool, typer.Option("--gone", help="Remove all items whose image file is missing or has changed.")
    ] = False,
) -> None:
    """Remove items from the gallery."""
    from scrubjay.catalogue import Catalogue

    catalogue = Catalogue(folder)
    if not (ids or gone):
        raise ConfigError("nothing to remove: give ids of items, or --gone.")
    names = list(ids or ())
    if gone:
        names += catalogue.upkeep.gone()
    say(f"removed {catalogue.remove(names)} of {len(names)} items.")


@app.command()
def status(folder: Folder) -> None:
    """Show the lineage of generations, which of them answers queries, and their items and figures."""
    from scrubjay.catalogue import Catalogue
    from scrubjay.report.lineage_tree import lines

    catalogue = Catalogue(folder)
    serving = catalogue.serving.read()
    changes = [(change.at, change.text()) for change in serving.history[-5:]]
    tree = lines(catalogue.lineage.generations(), serving.generation, catalogue.gallery.counts(), changes)
    say(f"{folder}: {catalogue.gallery.count()} items, backbone {catalogue.options.network.backbone}")
    for line in tree:
        say(line)
    if catalogue.interrupted():
        say("learning was interrupted: run the same `scrubjay learn` again to finish it.")
    newest = catalogue.lineage.newest
    if newest is None:
        say(f"nothing learned yet: scrubjay learn {folder} PHOTOS")
    elif newest.name != serving.generation and newest.name not in serving.rolled_back:
        say(f"{newest.name} does not answer queries yet: scrubjay gate {folder} {newest.name}")
    if serving.generation:
        warn_of_new_classes(catalogue)


def _duration(seconds: float) -> str:
    """A duration for a person, in seconds or minutes."""
    return f"{max(1, round(seconds))} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _add(catalogue: Catalogue, photos: list[Path], resume_with: str = "the same command") -> None:
    """Add images to the gallery, and report the result."""
    with working(resume_with):
        added = catalogue.add(photos)
    say(f"{added.items} items of these images are in the gallery, which holds {catalogue.gallery.count()}.")
    report_failures(added.failures)
