"""Commands for generations (gate, promote, rollback, backfill) and for the maintenance of a gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrubjay.cli.app import Folder, Settings, app
from scrubjay.cli.terminal import fail, report_failures, say, warn, working
from scrubjay.errors import ConfigError

Name = Annotated[
    str, typer.Argument(metavar="GENERATION", help="Name of the generation, for instance g2. See `scrubjay status`.")
]


@app.command()
def gate(
    folder: Folder,
    generation: Name,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report to this HTML file.")] = None,
    settings: Settings = None,
) -> None:
    """Measure what would change if a generation answered queries. Exit code 1 when its gate fails.

    --set changes a limit for this report only: old_retention, negative_flips or new_gain.
    """
    from scrubjay.catalogue import Catalogue
    from scrubjay.config import override
    from scrubjay.gate.decision import GateOptions
    from scrubjay.report.gate_page import gate_lines, write_gate_page

    catalogue = Catalogue(folder)
    limits = override(catalogue.options.gate.model_dump(), settings or [])
    with working():
        judged = catalogue.gate(generation, GateOptions.parse(limits, "gate"))
    say("\n".join(gate_lines(judged, str(folder))))
    if report is not None:
        write_gate_page(report, judged, str(folder))
        say(str(report))
    if not judged.passed:
        raise typer.Exit(1)


@app.command()
def promote(
    folder: Folder,
    generation: Name,
    force: Annotated[bool, typer.Option("--force", help="Promote although the gate fails; this is recorded.")] = False,
) -> None:
    """Let a generation answer queries, if its gate passes. Vectors are unchanged and stay searchable."""
    from scrubjay.catalogue import Catalogue

    catalogue = Catalogue(folder)
    with working():
        report = catalogue.promote(generation, force)
    for reason in report.reasons:
        warn(f"forced against the gate: {reason}")
    say(f"{generation} answers queries now; before: {report.serving}.")
    remaining = catalogue.gallery.store.count() - catalogue.gallery.counts().get(generation, 0)
    if remaining:
        say(f"{remaining} items are found by older vectors. Next: scrubjay backfill {folder} --plan")


@app.command()
def rollback(
    folder: Folder,
    generation: Annotated[
        str | None,
        typer.Argument(metavar="[GENERATION]", help="Generation to return to. Default: the one that answered before."),
    ] = None,
) -> None:
    """Let an earlier generation answer queries again. No vector is changed."""
    from scrubjay.errors import CatalogueError
    from scrubjay.generations.serving import ServingFile  # importing the whole catalogue would take seconds

    if not (folder / "catalogue.json").is_file():
        raise CatalogueError(f"{folder}: no catalogue here; make one first: scrubjay init {folder}")
    serving = ServingFile(folder).rollback(generation)
    say(f"{serving.generation} answers queries again; before: {serving.history[-1].before}.")


@app.command()
def backfill(
    folder: Folder,
    plan: Annotated[bool, typer.Option("--plan", help="Print the plan and change nothing.")] = False,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop after this time, for instance 90s, 20m or 1h30m.")
    ] = None,
    items: Annotated[int | None, typer.Option(min=1, help="Stop after this number of items.")] = None,
    until_recall: Annotated[
        float | None, typer.Option(min=0, max=1, help="Stop when the probe images reach this recall@1.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Embed at most this number of images a second.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes that embed.")] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Embed on a Ray cluster at this address, or on 'local'.")
    ] = None,
    order: Annotated[str, typer.Option(help="Order of the items: gain, uncertainty, label or random.")] = "gain",
) -> None:
    """Re-embed older items with the serving generation, the most useful ones first, while searches continue."""
    from scrubjay.backfill import Limits, seconds_of
    from scrubjay.catalogue import Catalogue

    catalogue = Catalogue(folder)
    if plan:
        with working():
            work = catalogue.plan(order)
        say("\n".join(work.lines()))
        return
    seconds = None if budget is None else seconds_of(budget)
    limits = Limits(seconds=seconds, items=items, rate=rate, jobs=jobs, ray=ray)
    with working():
        result = catalogue.backfill(limits, order, until_recall)
    say(
        f"embedded {result.done} items in {result.seconds:.1f} s ({result.images_per_second:.1f} a second): "
        f"{result.from_features} from stored features, {result.done - result.from_features} from their images."
    )
    report_failures([(uri, reason) for _, uri, reason in result.skipped])
    for problem in result.problems:
        warn(f"the audit found: {problem}; see scrubjay doctor {folder}")
    if result.complete:
        say("complete and audited: every item with a readable image is embedded by the serving generation.")
    elif result.limit is not None:
        option = {"seconds": "--budget", "items": "--items", "until": "--until-recall"}[result.limit]
        say(f"stopped by {option}; {result.missing} items are still found by older vectors.")
    elif result.missing:
        say(f"{result.missing} items are still found by older vectors; run the same command again to continue.")


@app.command()
def doctor(
    folder: Folder,
    repair: Annotated[
        bool,
        typer.Option("--repair", "--mend", help="Remove invalid vectors, and temporary files of interrupted work."),
    ] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="With --repair: embed every image again and remove vectors that differ.")
    ] = False,
) -> None:
    """Examine a catalogue, and name the command that repairs each problem. Exit code 1 when there is an error."""
    from scrubjay.catalogue import Catalogue

    if thorough and not repair:
        raise ConfigError("--thorough needs --repair; without it, a sample is compared.")
    catalogue = Catalogue(folder)
    with working():
        actions = catalogue.upkeep.repair(thorough) if repair else []
        findings = catalogue.upkeep.examine()
    for action in actions:
        say(action)
    for finding in findings:
        line = f"{finding.kind}: {finding.what}\n       {finding.cure}"
        if finding.kind == "error":
            warn(line)
        else:
            say(line)
    if not findings:
        say(f"{folder} has no problems.")
    if any(finding.kind == "error" for finding in findings):
        raise typer.Exit(1)


@app.command()
def shadow(
    folder: Folder,
    generation: Annotated[
        str | None,
        typer.Argument(
            metavar="[GENERATION]",
            help="Shadow generation to set. Without it, compute pending shadow answers and compare.",
        ),
    ] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of the queries that it answers.")] = 0.1,
    stop: Annotated[bool, typer.Option("--stop", help="End shadow answers.")] = False,
) -> None:
    """Let a second generation answer a share of the live queries as well, for comparison. Searches do not wait."""
    from scrubjay.catalogue import Catalogue

    catalogue = Catalogue(folder)
    if stop:
        catalogue.upkeep.shadow(None)
        say("no shadow generation is set any more.")
    elif generation is not None:
        catalogue.upkeep.shadow(generation, share)
        say(f"{generation} will answer {share:.0%} of the queries as well. Compare: scrubjay shadow {folder}")
    else:
        with working():
            comparison = catalogue.upkeep.shadowed()
        say("\n".join(comparison.lines()))


@app.command()
def export(
    folder: Folder,
    generation: Name,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write. Default: GENERATION.onnx in the catalogue.")
    ] = None,
    kind: Annotated[str, typer.Option("--format", help="Format of the file. Only onnx is available.")] = "onnx",
) -> None:
    """Export a generation's embedder for other programs, verified on real images."""
    from scrubjay.catalogue import Catalogue

    if kind != "onnx":
        raise ConfigError(f"--format {kind} is unknown; known is: onnx.")
    with working():
        exported = Catalogue(folder).upkeep.export(generation, out)
    say(
        f"{exported.path}: {exported.bytes / 2**20:.1f} MiB; its vectors of {exported.images} images differ by at most "
        f"{exported.max_difference:.2g} from those of torch."
    )


@app.command()
def prune(
    folder: Folder,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete vectors, generations and their files that nothing needs any more, after asking."""
    from scrubjay.catalogue import Catalogue

    catalogue = Catalogue(folder)
    what = catalogue.upkeep.prunable()
    for space, count in what.spaces:
        say(f"space {space.id}: {count} vectors of {space.generation}, which no search reads")
    for era, count in what.eras:
        say(f"features of {count} items of era {era}, which no generation that is kept uses")
    for generation, size in what.generations:
        say(f"generation {generation.name}: {size / 2**20:.1f} MiB, which no path of bridges uses")
    for path, size in what.files:
        say(f"{path.parent.name}/{path.name}: {size / 2**20:.1f} MiB, which no other generation uses")
    if not what:
        say("nothing to prune: everything is needed.")
    elif yes or typer.confirm("delete all of this permanently?"):
        catalogue.upkeep.prune(what)
        say("deleted.")
    else:
        say("nothing was deleted.")


@app.command()
def novel(
    folder: Folder,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the images in groups to this HTML file.")
    ] = None,
) -> None:
    """Report whether live queries look like classes that were never learned, with their images in groups."""
    from scrubjay.catalogue import Catalogue
    from scrubjay.report.novel_page import write_novel_page
    from scrubjay.search.novelty import message

    novelty = Catalogue(folder).upkeep.novel()
    if novelty is None:
        raise ConfigError(
            f"{folder}: too few probe images to tell known from unknown classes; `scrubjay learn` keeps them."
        )
    text = message(novelty)
    if text is None:
        text = f"no sign of new classes: {novelty.unmatched} of the last {novelty.queries} queries found no match."
    say(text)
    for number, group in enumerate(novelty.groups, 1):
        say(f"group {number}: {', '.join(str(query.image) for query in group)}")
    if report is not None:
        write_novel_page(report, novelty, str(folder))
        say(str(report))


@app.command()
def copy(
    source: Annotated[str, typer.Argument(help="Folder of a catalogue, or address of a store, to copy from.")],
    target: Annotated[
        str, typer.Argument(help="Folder or address to copy to, for instance postgresql://host/database?schema=shop.")
    ],
) -> None:
    """Copy a gallery from one store to another, and compare both. An interrupted copy continues when repeated."""
    from scrubjay.catalogue import Catalogue
    from scrubjay.gallery.transfer import copy as copied
    from scrubjay.stores import open_store

    stores = [
        open_store(place) if "://" in place else Catalogue(Path(place)).gallery.store for place in (source, target)
    ]
    with working():
        result = copied(*stores)
    vectors = ", ".join(f"{count} vectors of {space}" for space, count in result.vectors.items()) or "no vectors"
    features = "".join(f", features of {count} items" for count in result.features.values())
    say(f"copied {result.items} items, {vectors}{features}.")
    for space, count in result.left_out.items():
        if count:
            say(f"left out: {count} vectors of {space} that no search finds.")
    if not result.equal:
        problem = f"the stores differ: {result.difference}; run the same command again while no process writes to them."
        fail(problem, 1)
    say("both stores hold the same: counts and hashes are equal.")
