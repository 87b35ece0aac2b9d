"""Commands for experiments: run, compare, tune and demo, and the lists of methods, sources and backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrubjay import plugins
from scrubjay.cli.app import Settings, app
from scrubjay.cli.terminal import console, say, warn, working
from scrubjay.errors import ConfigError


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A TOML file; see the folder recipes.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; given again, the run is resumed.")],
    processes: Annotated[
        int, typer.Option(min=1, help="Number of processes that learn together; the result is that of one process.")
    ] = 1,
    settings: Settings = None,
) -> None:
    """Learn a stream of sessions with one method, and measure what it forgets."""
    from scrubjay.experiments import run as experiment
    from scrubjay.experiments.recipe import own_entry, read, resolve

    values = read(recipe, settings or [])
    resolved = resolve(values, own_entry(values, settings or []))
    options = experiment.ExperimentOptions.parse(resolved, str(recipe))
    from scrubjay.experiments.sample_hits import retrievals
    from scrubjay.report.html import write_report
    from scrubjay.report.table import summary
    from scrubjay.workers import Workers

    with working():
        result = experiment.run(options, out, workers=Workers(processes))
    console.print(summary([result]))
    write_report(out / "report.html", [result], retrievals({result["method"]: out}), title=options.name)
    say(f"{out / 'result.json'}\n{out / 'report.html'}")


@app.command()
def compare(
    recipe: Annotated[Path, typer.Argument(help="A TOML file; see the folder recipes.")],
    methods: Annotated[
        str, typer.Option(metavar="A,B:KEY=VALUE", help="Names of methods; options of one are given as in mmd:alpha=0.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of all runs; given again, unfinished runs are resumed.")],
    seeds: Annotated[str, typer.Option(metavar="N,N", help="Seeds; every method is run with each of them.")] = "0",
    jobs: Annotated[int, typer.Option(help="Number of runs in parallel; they share the cores.")] = 1,
    settings: Settings = None,
) -> None:
    """Run several methods on one stream, and rank them in a leaderboard."""
    from scrubjay.experiments import compare as bench
    from scrubjay.experiments.recipe import entries, read, refuse_taken, seeds_in
    from scrubjay.report.leaderboard_text import summary

    refuse_taken(settings or [])
    bench.threads_each(jobs)  # refuses a wrong number before anything is read
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
    method: Annotated[str, typer.Option(metavar="NAME", help="Method to tune; NAME:KEY=VALUE sets its other options.")],
    out: Annotated[Path, typer.Option(help="Folder of all trials; given again, the tuning is resumed.")],
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,VALUE", help="Option to tune and its values; repeatable. Default: the weights."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Largest number of candidates.")] = 25,
    session: Annotated[int, typer.Option(help="Session to tune for; the initial session is 0.")] = 1,
    start: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Folder of a run that has learned the sessions before.")
    ] = None,
    peek: Annotated[
        bool, typer.Option("--peek", help="Also evaluate all candidates on old data, to see how good the choice is.")
    ] = False,
    settings: Settings = None,
) -> None:
    """Choose a method's weights with the images of the new session alone."""
    from scrubjay.experiments.recipe import entries, read, resolve
    from scrubjay.experiments.run import ExperimentOptions

    (entry, *others) = entries(method)
    if others:
        raise ConfigError(f"--method {method}: tune one method at a time.")
    options = ExperimentOptions.parse(resolve(read(recipe, settings or []), entry), str(recipe))
    from scrubjay.experiments import tuning
    from scrubjay.report.tuning_summary import lines

    with working():
        report = tuning.tune(options, out, grid or [], trials, session, start, peek)
    say("\n".join([*lines(report), *(str(out / name) for name in ("tune.md", "tune.json", "chosen.toml"))]))


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Folder for everything that the demo writes.")] = Path("demo")) -> None:
    """Run everything on drawn birds: learn four sessions, measure, build a gallery, search it, write a report."""
    from scrubjay.cli import demo as script

    script.run_demo(out, console, working)


@app.command()
def methods() -> None:
    """List the methods: the name that recipes use, the name in full, and what the method does."""
    listing(plugins.summaries("methods"))


@app.command()
def sources() -> None:
    """List the sources of images."""
    listing(plugins.summaries("data.sources"))


@app.command()
def backbones(
    pattern: Annotated[str, typer.Argument(help="Pattern with * and ?, for instance '*convnext*'.")] = "*",
) -> None:
    """List the backbones: every model of timm. The default one is marked; its weights come with scrubjay."""
    from scrubjay import _compat as compat
    from scrubjay.models.backbones import DEFAULT

    names = compat.load("timm").list_models(pattern)
    if not names:
        raise ConfigError(f"no timm model matches {pattern!r}; use * and ?, for instance '*convnext*'.")
    listing(
        {name: "default; its weights are installed, no download needed" if name == DEFAULT else "" for name in names}
    )


def listing(lines: dict[str, str]) -> None:
    """Print names and their descriptions in two columns."""
    width = max(map(len, lines), default=0)
    for name, text in lines.items():
        print(f"{name:<{width}}  {text}".rstrip())
