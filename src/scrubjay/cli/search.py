"""The command that searches: a catalogue in a folder, or one that a running service has open."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrubjay.cli.app import app
from scrubjay.cli.terminal import say, warn
from scrubjay.errors import ConfigError

if TYPE_CHECKING:
    from scrubjay.catalogue import Catalogue
    from scrubjay.service.schemas.search import AnswerRecord, HitRecord
    from scrubjay.types import Hit


@app.command()
def search(
    folder: Annotated[Path, typer.Argument(help="Folder of the catalogue. Left out with --service.")],
    image: Annotated[Path | None, typer.Argument(help="Image to search for.", show_default=False)] = None,
    k: Annotated[int, typer.Option("-k", help="Number of hits.")] = 5,
    label: Annotated[list[str] | None, typer.Option(help="Find only items of this class. Repeatable.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Find only items with this value in their metadata. Repeatable."),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Ask a running service, which takes no seconds to start. Its key: SCRUBJAY_KEY."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write an HTML file that shows which parts of the images make them similar."),
    ] = None,
) -> None:
    """Find the images in the gallery that are most similar to an image."""
    from scrubjay.config import override

    conditions = override({}, where or [])
    filters = [*(f"class {name}" for name in label or ()), *(where or ())]
    if service is not None:
        if image is not None or explain is not None:
            raise ConfigError("with --service give the image only: scrubjay search --service URL IMAGE.")
        _search_service(service, folder, k, label or [], conditions, filters, as_json)
    elif image is None:
        raise ConfigError(f"no image is given: scrubjay search {folder} IMAGE.")
    else:
        _search_folder(folder, image, k, label, conditions, filters, as_json, explain)


def _search_folder(
    folder: Path,
    image: Path,
    k: int,
    labels: list[str] | None,
    where: dict[str, Any],
    filters: Sequence[str],
    as_json: bool,
    explain: Path | None,
) -> None:
    """Search the catalogue in a folder, and print the answer."""
    from dataclasses import asdict

    from scrubjay.catalogue import Catalogue
    from scrubjay.search.match_decision import meaning

    catalogue = Catalogue(folder)
    answer = catalogue.answer(image, k, labels, where or None)
    if explain is not None and answer.hits:
        from scrubjay.report.explanation_page import write_explanation_page

        write_explanation_page(explain, image, catalogue.explain(image, answer), answer.generation)
    if as_json:
        print(json.dumps(asdict(answer), indent=1))
        return
    _print_hits(answer.hits, filters)
    if explain is not None and answer.hits:
        say(str(explain))
    _print_match(answer.matched, meaning(answer.match_basis, catalogue.options.false_match_rate))
    if answer.unembedded:
        warn(f"{answer.unembedded} items have no vector and were not searched: scrubjay backfill {folder}")
    if answer.matched is False:
        warn_of_new_classes(catalogue)


def _search_service(
    url: str, image: Path, k: int, labels: list[str], where: dict[str, Any], filters: Sequence[str], as_json: bool
) -> None:
    """Search the catalogue of a running service, and print the answer as for a folder."""
    from scrubjay.client.synchronous import Client

    with Client(url) as client:
        (answer,) = client.search(image, k=k, labels=labels, where=where).answers
        if as_json:
            print(json.dumps(_as_local(answer), indent=1))
            return
        _print_hits(answer.hits, filters)
        _print_match(answer.matched, answer.meaning or "")
        if answer.unembedded:
            warn(f"{answer.unembedded} items have no vector and were not searched: start a backfill on {url}")
        if answer.matched is False:
            news = client.unknown().message
            if news is not None:
                warn(f"{news} See their images: {url}")


def _as_local(answer: AnswerRecord) -> dict[str, Any]:
    """The answer of a service with the names and the order of fields that an answer from a folder has."""
    fields = ("id", "uri", "label", "score", "generation", "metadata", "match")
    hits = [{name: getattr(hit, name) for name in fields} for hit in answer.hits]
    rest = ("generation", "matched", "threshold", "unembedded", "match_score", "match_basis")
    return {"hits": hits, **{name: getattr(answer, name) for name in rest}}


def _print_hits(hits: Sequence[Hit | HitRecord], filters: Sequence[str]) -> None:
    """One line for each hit; where there is none, what the search was restricted to."""
    width = max((len(hit.label or "–") for hit in hits), default=0)
    for rank, hit in enumerate(hits, 1):
        match = "" if hit.match is None else f"  {hit.match:4.0%}"
        say(f"{rank:>3}  {hit.score:6.3f}{match}  {hit.label or '–':<{width}}  {hit.uri or hit.id}")
    if not hits:
        say(f"no item of {' or '.join(filters)} in the gallery.")


def _print_match(matched: bool | None, meaning: str) -> None:
    """Print whether anything matches, and what the rate means."""
    if matched is not None:
        result = "probably a match" if matched else "probably not in the catalogue"
        say(f"{result}. {meaning.capitalize()}.")


def warn_of_new_classes(catalogue: Catalogue) -> None:
    """Warn where live queries look like classes that were never learned."""
    from scrubjay.search.novelty import message

    novelty = catalogue.upkeep.novel()
    if novelty is not None and novelty.alarm:
        warn(f"{message(novelty)} See their images: scrubjay novel {catalogue.folder}")
