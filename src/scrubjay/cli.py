"""The console script: parse, call, print. A user's mistake is one line and exit code 2."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrubjay import __version__, plugins
from scrubjay.errors import ConfigError, ScrubjayError
from scrubjay.terminal import console, fail, learned, report_failures, say, warn, working

if TYPE_CHECKING:
    from scrubjay.catalogue import Catalogue

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Image retrieval that keeps learning: new classes in, none forgotten, the index still valid.",
)

Folder = Annotated[Path, typer.Argument(help="Folder of the catalogue.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set an option; repeatable.")]


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack letters that names of files have
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except ScrubjayError as error:
        fail(str(error), error.exit_code)
    except OSError as error:
        fail(f"{error.filename or 'system'}: {error.strerror or error}; check the path, permissions and space.", 1)


def version(show: bool) -> None:
    if show:
        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Say it.")] = False,
) -> None:
    """Image retrieval that keeps learning: new classes in, none forgotten, the index still valid."""


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


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A TOML file; see the folder recipes.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; given again, the run goes on.")],
    settings: Settings = None,
) -> None:
    """Run one method on one stream and measure what it forgets."""
    from scrubjay import experiment
    from scrubjay.recipe import own_entry, read, resolve

    values = read(recipe, settings or [])
    resolved = resolve(values, own_entry(values, settings or []))
    options = experiment.ExperimentOptions.parse(resolved, str(recipe))
    from scrubjay.report.html import write_report
    from scrubjay.report.retrievals import retrievals
    from scrubjay.report.table import summary

    with working():
        result = experiment.run(options, out)
    console.print(summary([result]))
    write_report(out / "report.html", [result], retrievals({result["method"]: out}), title=options.name)
    say(f"{out / 'result.json'}\n{out / 'report.html'}")


@app.command()
def compare(
    recipe: Annotated[Path, typer.Argument(help="A TOML file; see the folder recipes.")],
    methods: Annotated[
        str, typer.Option(metavar="A,B:KEY=VALUE", help="Methods, some with options of their own, as mmd:alpha=0.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of all runs; given again, what is missing is run.")],
    seeds: Annotated[str, typer.Option(metavar="N,N", help="A run of every method with each.")] = "0",
    jobs: Annotated[int, typer.Option(help="Runs at a time; they share the cores.")] = 1,
    settings: Settings = None,
) -> None:
    """Run methods against one another on one stream, and rank them."""
    from scrubjay import bench
    from scrubjay.recipe import entries, read, refuse_taken, seeds_in
    from scrubjay.report.leaderboard_text import summary

    refuse_taken(settings or [])
    bench.threads_each(jobs)  # refuses before anything is read
    runs = bench.plan(read(recipe, settings or []), entries(methods), seeds_in(seeds), out, str(recipe))
    with working():
        board = bench.compare(runs, out, jobs, say)
    if board.rows:
        console.print(summary(board))
        say("\n".join(str(out / f"leaderboard.{kind}") for kind in ("md", "html", "json")))
    for failure in board.failed:
        warn(f"failed: {failure.label}, seed {failure.seed}: {failure.reason}")
    if board.failed:
        raise typer.Exit(1)


@app.command()
def tune(
    recipe: Annotated[Path, typer.Argument(help="A TOML file; see the folder recipes.")],
    method: Annotated[str, typer.Option(metavar="NAME", help="Whose weights; NAME:KEY=VALUE sets others of it.")],
    out: Annotated[Path, typer.Option(help="Folder of all trials; given again, the tuning goes on.")],
    grid: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE,VALUE", help="What to try instead; repeatable.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Candidates at most.")] = 25,
    session: Annotated[int, typer.Option(help="The session to tune for; the initial one is 0.")] = 1,
    start: Annotated[Path | None, typer.Option(metavar="RUN", help="A run that learned the sessions before.")] = None,
    peek: Annotated[bool, typer.Option("--peek", help="See with old data how good the choice is.")] = False,
    settings: Settings = None,
) -> None:
    """Choose a method's weights by the new pictures alone."""
    from scrubjay.experiment import ExperimentOptions
    from scrubjay.recipe import entries, read, resolve

    (entry, *more) = entries(method)
    if more:
        raise ConfigError(f"--method {method}: tune one method at a time.")
    options = ExperimentOptions.parse(resolve(read(recipe, settings or []), entry), str(recipe))
    from scrubjay import tuning
    from scrubjay.report.tuned import lines

    with working():
        found = tuning.tune(options, out, grid or [], trials, session, start, peek)
    say("\n".join([*lines(found), *(str(out / name) for name in ("tune.md", "tune.json", "chosen.toml"))]))


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("demo")) -> None:
    """The whole story on the embedded data: learn four sessions, measure, build a gallery, search it, report."""
    from scrubjay import demo as story

    story.tell(out, console, working)


@app.command()
def methods() -> None:
    """List the methods."""
    listing(plugins.summaries("methods"))


@app.command()
def sources() -> None:
    """List the sources of pictures."""
    listing(plugins.summaries("data.sources"))


@app.command()
def backbones(pattern: Annotated[str, typer.Argument(help="With * and ?, for instance '*convnext*'.")] = "*") -> None:
    """List the backbones: every model of timm; those marked come with their weights."""
    from scrubjay import compat
    from scrubjay.models.backbones import DEFAULT

    found = compat.load("timm").list_models(pattern)
    if not found:
        raise ConfigError(f"no timm model is called {pattern!r}; use * and ?, for instance '*convnext*'.")
    listing(
        {name: "default; its weights are installed, no network needed" if name == DEFAULT else "" for name in found}
    )


def _add(catalogue: Catalogue, photos: list[Path], again: str = "the same command") -> None:
    with working(again):
        added = catalogue.add(photos)
    say(f"{added.items} items of these pictures are in the gallery, which holds {catalogue.gallery.count()}.")
    report_failures(added.failures)


def listing(lines: dict[str, str]) -> None:
    """Names and what they are, a line each."""
    width = max(map(len, lines), default=0)
    for name, text in lines.items():
        print(f"{name:<{width}}  {text}".rstrip())
