"""Commands that create a catalogue, let it learn, fill it and search it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrubjay.cli.app import Folder, Settings, app
from scrubjay.cli.terminal import report_failures, say, warn, working
from scrubjay.errors import ConfigError

if TYPE_CHECKING:
    from scrubjay.catalogue import Catalogue
    from scrubjay.search.request import Answer
    from scrubjay.types import Hit


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the new catalogue.")],
    backbone: Annotated[str | None, typer.Option(help="Name of a timm model. See `scrubjay backbones`.")] = None,
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
    if backbone is not None:
        values = override(values, [f"network.backbone={backbone}"])
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
        int, typer.Option(min=1, help="Number of processes that compute features, for methods in closed form.")
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Compute them on a Ray cluster at this address, or on 'local'."),
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
def search(
    folder: Folder,
    image: Annotated[Path, typer.Argument(help="Image to search for.")],
    k: Annotated[int, typer.Option("-k", help="Number of hits.")] = 5,
    label: Annotated[list[str] | None, typer.Option(help="Find only items of this class. Repeatable.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Find only items with this value in their metadata. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write an HTML file that shows which parts of the images make them similar."),
    ] = None,
) -> None:
    """Find the images in the gallery that are most similar to an image."""
    from dataclasses import asdict

    from scrubjay.catalogue import Catalogue
    from scrubjay.config import override

    catalogue = Catalogue(folder)
    answer = catalogue.answer(image, k, label, override({}, where or []) or None)
    if explain is not None and answer.hits:
        from scrubjay.report.explanation_page import write_explanation_page

        write_explanation_page(explain, image, catalogue.explain(image, answer), answer.generation)
    if as_json:
        print(json.dumps(asdict(answer), indent=1))
        return
    _print_hits(answer.hits, [*(f"class {name}" for name in label or ()), *(where or ())])
    if explain is not None and answer.hits:
        say(str(explain))
    _print_match(answer, catalogue.options.false_match_rate)
    if answer.unembedded:
        warn(f"{answer.unembedded} items have no vector and were not searched: scrubjay backfill {folder}")
    if answer.matched is False:
        _warn_of_new_classes(catalogue)


def _print_hits(hits: Sequence[Hit], filters: Sequence[str]) -> None:
    """One line for each hit; where there is none, what the search was restricted to."""
    width = max((len(hit.label or "–") for hit in hits), default=0)
    for rank, hit in enumerate(hits, 1):
        match = "" if hit.match is None else f"  {hit.match:4.0%}"
        say(f"{rank:>3}  {hit.score:6.3f}{match}  {hit.label or '–':<{width}}  {hit.uri}")
    if not hits:
        say(f"no item of {' or '.join(filters)} in the gallery.")


def _print_match(answer: Answer, false_match_rate: float) -> None:
    """Print whether anything matches, and what the rate means."""
    from scrubjay.search.match_decision import meaning

    if answer.matched is not None:
        result = "probably a match" if answer.matched else "probably not in the catalogue"
        say(f"{result}. {meaning(answer.match_basis, false_match_rate).capitalize()}.")


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
        _warn_of_new_classes(catalogue)


def _duration(seconds: float) -> str:
    """A duration for a person, in seconds or minutes."""
    return f"{max(1, round(seconds))} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _warn_of_new_classes(catalogue: Catalogue) -> None:
    """Warn where live queries look like classes that were never learned."""
    from scrubjay.search.novelty import message

    novelty = catalogue.upkeep.novel()
    if novelty is not None and novelty.alarm:
        warn(f"{message(novelty)} See their images: scrubjay novel {catalogue.folder}")


def _add(catalogue: Catalogue, photos: list[Path], resume_with: str = "the same command") -> None:
    """Add images to the gallery, and report the result."""
    with working(resume_with):
        added = catalogue.add(photos)
    say(f"{added.items} items of these images are in the gallery, which holds {catalogue.gallery.count()}.")
    report_failures(added.failures)
