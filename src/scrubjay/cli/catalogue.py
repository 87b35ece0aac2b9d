"""Commands of a catalogue: make it, let it learn, fill it, search it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrubjay.cli.app import Folder, Settings, app
from scrubjay.cli.terminal import report_failures, say, warn, working
from scrubjay.errors import ConfigError

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
    from scrubjay.catalogue import Catalogue
    from scrubjay.config import override
    from scrubjay.workspace.options import CatalogueOptions

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
    start: Annotated[
        str | None, typer.Option("--from", metavar="GENERATION", help="What to train further. Default: the newest.")
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Put the images into the gallery as well.")] = False,
    settings: Settings = None,
) -> None:
    """Learn new classes; the images of old ones may be gone. Makes a generation, which does not answer yet."""
    from scrubjay.catalogue import Catalogue
    from scrubjay.config import override
    from scrubjay.report.lineage_tree import described

    catalogue = Catalogue(folder)
    with working():
        generation = catalogue.learn(photos, method, override({}, settings or []), start)
    say(described(generation))
    report_failures(generation.info.broken)
    answers = catalogue.serving.read().generation
    if answers != generation.name:
        say(f"{answers} still answers queries. Next: scrubjay gate {folder} {generation.name}")
    if add:
        _add(catalogue, [photos], f"`scrubjay add {folder} {photos}`")


@app.command()
def add(
    folder: Folder,
    photos: Annotated[list[Path], typer.Argument(help="Folders, tables or single images.")],
) -> None:
    """Put images into the gallery."""
    from scrubjay.catalogue import Catalogue

    _add(Catalogue(folder), photos)


@app.command()
def remove(
    folder: Folder,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids, as `search --json` shows them.")] = None,
    gone: Annotated[bool, typer.Option("--gone", help="Those whose image is not there any more.")] = False,
) -> None:
    """Take items out of the gallery."""
    from scrubjay.catalogue import Catalogue

    catalogue = Catalogue(folder)
    if not (ids or gone):
        raise ConfigError("nothing to remove: give ids, or --gone.")
    found = [*(ids or ()), *(catalogue.upkeep.gone() if gone else ())]
    say(f"removed {catalogue.remove(found)} of {len(found)} items.")


@app.command()
def search(
    folder: Folder,
    image: Annotated[Path, typer.Argument(help="The query.")],
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 5,
    label: Annotated[list[str] | None, typer.Option(help="Only items of this class; repeatable.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only items with this in their metadata; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the images most like one."""
    from dataclasses import asdict

    from scrubjay.catalogue import Catalogue
    from scrubjay.config import override
    from scrubjay.search.novelty import message

    catalogue = Catalogue(folder)
    answer = catalogue.answer(image, k, label, override({}, where or []) or None)
    if as_json:
        print(json.dumps(asdict(answer), indent=1))
        return
    width = max((len(hit.label or "–") for hit in answer.hits), default=0)
    for rank, hit in enumerate(answer.hits, 1):
        match = "" if hit.match is None else f"  {hit.match:4.0%}"
        say(f"{rank:>3}  {hit.score:6.3f}{match}  {hit.label or '–':<{width}}  {hit.uri}")
    if not answer.hits:
        wanted = [*(f"class {name}" for name in label or ()), *(where or ())]
        say(f"no item of {' or '.join(wanted)} in the gallery.")
    elif answer.matched is False:
        say("probably not in the catalogue.")
    if answer.unembedded:
        warn(f"{answer.unembedded} items have no vector and were not looked at: scrubjay backfill {folder}")
    found = catalogue.upkeep.novel() if answer.matched is False else None
    if found is not None and found.alarm:
        warn(f"{message(found)} Look at them: scrubjay novel {folder}")


@app.command()
def status(folder: Folder) -> None:
    """The line of generations, which of them answers, items by generation, and what was measured."""
    from scrubjay.catalogue import Catalogue
    from scrubjay.report.lineage_tree import lines
    from scrubjay.search.novelty import message

    catalogue = Catalogue(folder)
    serving = catalogue.serving.read()
    turns = [(turn.at, turn.text()) for turn in serving.history[-5:]]
    drawn = lines(catalogue.lineage.generations(), serving.generation, catalogue.gallery.counts(), turns)
    say(
        "\n".join(
            [f"{folder}: {catalogue.gallery.count()} items, backbone {catalogue.options.network.backbone}", *drawn]
        )
    )
    if catalogue.interrupted():
        say("an interrupted learning waits: give the same `scrubjay learn` again to finish it.")
    newest = catalogue.lineage.newest
    if newest is None:
        say(f"nothing learned yet: scrubjay learn {folder} PHOTOS")
    elif newest.name != serving.generation and newest.name not in serving.left:
        say(f"{newest.name} does not answer yet: scrubjay gate {folder} {newest.name}")
    found = catalogue.upkeep.novel() if serving.generation else None
    if found is not None and found.alarm:
        warn(f"{message(found)} Look at them: scrubjay novel {folder}")


def _add(catalogue: Catalogue, photos: list[Path], again: str = "the same command") -> None:
    with working(again):
        added = catalogue.add(photos)
    say(f"{added.items} items of these images are in the gallery, which holds {catalogue.gallery.count()}.")
    report_failures(added.failures)
