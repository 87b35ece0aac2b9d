"""Commands of generations: gate, promote, roll back, backfill, and what keeps a gallery sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrubjay.cli.app import Folder, Settings, app
from scrubjay.cli.terminal import fail, report_failures, say, warn, working
from scrubjay.errors import ConfigError

Name = Annotated[str, typer.Argument(metavar="GENERATION", help="As `scrubjay status` shows it: g2.")]


@app.command()
def gate(
    folder: Folder,
    generation: Name,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as an HTML page.")] = None,
    settings: Settings = None,
) -> None:
    """Measure what would change if a generation answered queries. Exit code 1 when its gate fails.

    --set changes a limit for this report only, for instance --set negative_flips=0.05.
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
    force: Annotated[bool, typer.Option("--force", help="Although the gate fails; the lineage will say so.")] = False,
) -> None:
    """Let a generation answer queries, if its gate passes. Vectors stay as they are, and stay searchable."""
    from scrubjay.catalogue import Catalogue

    catalogue = Catalogue(folder)
    with working():
        report = catalogue.promote(generation, force)
    for reason in report.reasons:
        warn(f"forced against the gate: {reason}")
    say(f"{generation} answers queries now; before: {report.serving}.")
    waiting = catalogue.gallery.store.count() - catalogue.gallery.counts().get(generation, 0)
    if waiting:
        say(f"{waiting} items are found by older vectors. Next: scrubjay backfill {folder} --plan")


@app.command()
def rollback(
    folder: Folder,
    generation: Annotated[str | None, typer.Argument(metavar="[GENERATION]", help="Default: the one before.")] = None,
) -> None:
    """Let the generation before answer again. No vector is touched."""
    from scrubjay.errors import CatalogueError
    from scrubjay.generations.serving import ServingFile  # not the whole catalogue: it takes seconds to import

    if not (folder / "catalogue.json").is_file():
        raise CatalogueError(f"{folder}: no catalogue here; make one first: scrubjay init {folder}")
    serving = ServingFile(folder).rollback(generation)
    say(f"{serving.generation} answers queries again; before: {serving.history[-1].before}.")


@app.command()
def backfill(
    folder: Folder,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done; do nothing.")] = False,
    budget: Annotated[str | None, typer.Option(metavar="TIME", help="Stop after it: 90s, 20m, 1h30m.")] = None,
    items: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    until_recall: Annotated[
        float | None, typer.Option(min=0, max=1, help="Stop when the probe images have this recall@1.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Images a second, at most.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that embed.")] = 1,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Embed on a Ray cluster, or on 'local'.")] = None,
    order: Annotated[str, typer.Option(help="gain, uncertainty, random or label.")] = "gain",
) -> None:
    """Embed older items with the generation that answers, the most useful first. Searches go on meanwhile."""
    from scrubjay.backfill import Limits, seconds_of
    from scrubjay.catalogue import Catalogue

    catalogue = Catalogue(folder)
    if plan:
        with working():
            found = catalogue.plan(order)
        say("\n".join(found.lines()))
        return
    seconds = None if budget is None else seconds_of(budget)
    limits = Limits(seconds=seconds, items=items, rate=rate, jobs=jobs, ray=ray)
    with working():
        done = catalogue.backfill(limits, order, until_recall)
    say(f"embedded {done.done} items in {done.seconds:.1f} s ({done.images_per_second:.1f} a second).")
    report_failures([(uri, reason) for _, uri, reason in done.skipped])
    for problem in done.problems:
        warn(f"the audit found: {problem}; see scrubjay doctor {folder}")
    if done.complete:
        say("audited: every item whose image can be had is embedded by the generation that answers.")
    elif done.limit is not None:
        option = {"seconds": "--budget", "items": "--items", "until": "--until-recall"}[done.limit]
        say(f"stopped by {option}; {done.missing} items are still found by older vectors.")
    elif done.missing:
        say(f"{done.missing} items are still found by older vectors; the same command goes on.")


@app.command()
def doctor(
    folder: Folder,
    repair: Annotated[
        bool, typer.Option("--repair", "--mend", help="Remove invalid vectors, and files of interrupted work.")
    ] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="With --repair: embed every image again to compare its vector.")
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
        say(f"{folder} is sound.")
    if any(finding.kind == "error" for finding in findings):
        raise typer.Exit(1)


@app.command()
def shadow(
    folder: Folder,
    generation: Annotated[str | None, typer.Argument(metavar="[GENERATION]", help="None: go on and report.")] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the queries.")] = 0.1,
    stop: Annotated[bool, typer.Option("--stop", help="End it.")] = False,
) -> None:
    """Let a generation answer a share of the live queries too, for comparison; no answer waits for it."""
    from scrubjay.catalogue import Catalogue

    catalogue = Catalogue(folder)
    if stop:
        catalogue.upkeep.shadow(None)
        say("no generation answers in the shadow any more.")
    elif generation is not None:
        catalogue.upkeep.shadow(generation, share)
        say(f"{generation} will answer {share:.0%} of the queries too. Compare: scrubjay shadow {folder}")
    else:
        with working():
            found = catalogue.upkeep.shadowed()
        say("\n".join(found.lines()))


@app.command()
def export(
    folder: Folder,
    generation: Name,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: GENERATION.onnx in the catalogue.")] = None,
    kind: Annotated[str, typer.Option("--format", help="onnx.")] = "onnx",
) -> None:
    """Write a generation's embedder for other programs; checked on real images before it is called done."""
    from scrubjay.catalogue import Catalogue

    if kind != "onnx":
        raise ConfigError(f"--format {kind}: what there is: onnx.")
    with working():
        found = Catalogue(folder).upkeep.export(generation, out)
    say(
        f"{found.path}: {found.bytes / 2**20:.1f} MiB; on {found.images} images at most {found.max_difference:.2g} "
        "from what torch gives."
    )


@app.command()
def prune(
    folder: Folder,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Drop vectors and generations that nothing needs, after asking."""
    from scrubjay.catalogue import Catalogue

    catalogue = Catalogue(folder)
    what = catalogue.upkeep.prunable()
    for space, count in what.spaces:
        say(f"space {space.id}: {count} vectors of {space.generation}, which no search reads")
    for generation, size in what.generations:
        say(f"generation {generation.name}: {size / 2**20:.1f} MiB, which nothing descends to")
    if not what:
        say("nothing to prune: all of it is needed.")
    elif yes or typer.confirm("drop all of this for good?"):
        catalogue.upkeep.prune(what)
        say("dropped.")
    else:
        say("nothing was dropped.")


@app.command()
def novel(
    folder: Folder,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with the images.")] = None,
) -> None:
    """Whether live queries look like classes that were never learned, with the images grouped."""
    from scrubjay.catalogue import Catalogue
    from scrubjay.report.novel_page import write_novel_page
    from scrubjay.search.novelty import message

    found = Catalogue(folder).upkeep.novel()
    if found is None:
        raise ConfigError(f"{folder}: no probe images tell known from unknown; they are kept when classes are learned.")
    say(message(found) or f"nothing to learn: {found.unmatched} of the last {found.queries} queries found no match.")
    for number, group in enumerate(found.groups, 1):
        say(f"group {number}: {', '.join(str(query.image) for query in group)}")
    if report is not None:
        write_novel_page(report, found, str(folder))
        say(str(report))


@app.command()
def copy(
    source: Annotated[str, typer.Argument(help="A catalogue's folder, or the address of a store.")],
    target: Annotated[str, typer.Argument(help="The same; as postgresql://host/database?schema=shop.")],
) -> None:
    """Copy a gallery from one store into another, and compare what both hold. Cut short, it goes on."""
    from scrubjay.catalogue import Catalogue
    from scrubjay.gallery.transfer import copy as copied
    from scrubjay.stores import open_store

    stores = [
        open_store(place) if "://" in place else Catalogue(Path(place)).gallery.store for place in (source, target)
    ]
    with working():
        found = copied(*stores)
    vectors = ", ".join(f"{count} vectors of {space}" for space, count in found.vectors.items()) or "no vectors"
    say(f"copied {found.items} items, {vectors}.")
    for space, count in found.left_out.items():
        if count:
            say(f"left out: {count} vectors of {space} that no search finds either.")
    if not found.equal:
        fail(f"the two differ: {found.difference}; give the same command again.", 1)
    say("both hold the same: counts and hashes are equal.")
