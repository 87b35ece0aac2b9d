"""Examines a catalogue: what is wrong with it, what that means, and the command that repairs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from scrubjay.backfill.state import read_journal
from scrubjay.errors import CheckpointError, ScrubjayError, UserError
from scrubjay.gallery.features import lacking_features
from scrubjay.gallery.items import MISSING, image_problem, intact
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.generation import Generation
from scrubjay.learning.session import interrupted_sessions
from scrubjay.maintenance.features import differing_features, era_of, invalid_features, unused_eras
from scrubjay.maintenance.repair import counted, foreign_vectors, invalid_vectors, leftovers, unused_images
from scrubjay.models.checkpoint import load_tensors
from scrubjay.stores import Space
from scrubjay.workspace.removal_request import RemovalRequest
from scrubjay.workspace.workspace import Workspace

SAMPLE = 16
"""Number of items of each space that are embedded again, to check that their vectors are of that space."""
SHOWN = 3
"""Number of names that a finding lists."""

Kind = Literal["error", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of a catalogue.

    Attributes:
        kind: "error" where answers suffer or something was lost; "note" where nothing needs to be done.
        what: description of the problem, with numbers and names.
        cure: the command that repairs it, or what else to do.
    """

    kind: Kind
    what: str
    cure: str


def examine(workspace: Workspace) -> list[Finding]:
    """All problems of a catalogue. Nothing is changed."""
    checks = (
        _generations,
        _serving,
        _probes_and_calibrations,
        _spaces,
        _vectors,
        _features,
        _coverage,
        _files,
        _interrupted,
    )
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(workspace)
        except UserError:
            raise
        except ScrubjayError as error:
            findings.append(Finding("error", str(error), f"restore {workspace.folder} from a copy"))
    return findings


def _generations(workspace: Workspace) -> Iterator[Finding]:
    """Damaged or missing files of generations."""
    for generation in workspace.lineage.generations():
        for name in ("network", "method", "bridges", "session"):
            path = generation.folder / f"{name}.safetensors"
            needed = name == "network" or (name == "bridges" and bool(generation.info.bridges))
            if not needed and not path.exists():
                continue
            try:
                load_tensors(path, "restore it from a copy")
            except CheckpointError as error:
                yield Finding("error", str(error), f"restore {path} from a copy; other generations are untouched")
    trunks = {generation.info.trunk for generation in workspace.lineage.generations()}
    for trunk in sorted(name for name in trunks if name is not None):
        try:
            workspace.lineage.trunks.check(trunk)
        except CheckpointError as error:
            yield Finding("error", str(error), f"restore {workspace.lineage.trunks.path(trunk)} from a copy")
    for name in sorted({name for generation in workspace.lineage.generations() for name in generation.info.statistics}):
        try:
            workspace.lineage.statistics.get(name)
        except CheckpointError as error:
            cure = f"restore {workspace.lineage.statistics.path(name)} from a copy; searches are not affected"
            yield Finding("error", str(error), cure)


def _serving(workspace: Workspace) -> Iterator[Finding]:
    """A serving generation that is not set or missing."""
    names = [generation.name for generation in workspace.lineage.generations()]
    serving = workspace.serving.read().generation
    if serving is None and names:
        cure = f"scrubjay promote {workspace.folder} {names[-1]}"
        yield Finding("error", "no generation answers queries", cure)
    elif serving is not None and serving not in names:
        newest = names[-1] if names else "GENERATION"
        cure = f"restore generations/{serving}, or: scrubjay rollback {workspace.folder} {newest}"
        yield Finding("error", f"the serving generation {serving} is missing", cure)


def _probes_and_calibrations(workspace: Workspace) -> Iterator[Finding]:
    """Missing probe images, and damaged files of the probe set and of calibrations."""
    for generation in workspace.lineage.generations():
        try:
            probes = workspace.probe_set.probes([generation.name])
            missing = [str(probe.sample.path) for probe in probes if probe.sample and not probe.sample.path.is_file()]
            if missing:
                cure = "restore them from a copy; the gate cannot judge without them"
                yield Finding("error", f"{len(missing)} probe images are missing ({_some(missing)})", cure)
        except CheckpointError as error:
            yield Finding("error", str(error), "do what the message says; searches are not affected")
        readers = {
            workspace.calibrations_path(generation): workspace.calibrations,
            workspace.match_model_path(generation): workspace.match_model,
        }
        for path, read in readers.items():
            try:
                read(generation)
            except CheckpointError as error:
                yield Finding("error", str(error), f"rm {path} && scrubjay backfill {workspace.folder}")


def _spaces(workspace: Workspace) -> Iterator[Finding]:
    """Spaces that no search finds anything in, and spaces with vectors of several networks."""
    store, folder = workspace.gallery.store, workspace.folder
    searched = _searched_spaces(workspace)
    for space in store.spaces():
        generation, held = workspace.generation_of(space), store.coverage(space)[0]
        cure = f"scrubjay backfill {folder} && scrubjay prune {folder}"
        if generation is not None and generation.fingerprint != space.fingerprint:
            what = f"its {held} vectors are foreign: not computed by {space.generation}; no search finds them"
            yield Finding("error", f"space {space.id}: {what}", cure)
        elif space not in searched:
            what = f"no bridge leads to the {held} vectors of {space.generation}; no search finds them"
            yield Finding("error", f"space {space.id}: {what}", cure)
        elif generation is not None:
            yield from _mixed(workspace, space, generation)


def _searched_spaces(workspace: Workspace) -> list[Space]:
    """The spaces that a search covers; all of them while no generation answers queries."""
    serving, spaces = _serving_generation(workspace), workspace.gallery.store.spaces()
    return spaces if serving is None else workspace.bridge_paths.reachable(serving.name, spaces)


def _serving_generation(workspace: Workspace) -> Generation | None:
    """The generation that answers queries; None where none is set or it is missing."""
    name = workspace.serving.read().generation
    return None if name is None else workspace.lineage.by_name().get(name)


def _mixed(workspace: Workspace, space: Space, generation: Generation) -> Iterator[Finding]:
    compared, differing = foreign_vectors(workspace, space, generation, SAMPLE)
    if differing:
        what = (
            f"space {space.id} is mixed: {len(differing)} of {compared} vectors in a sample differ from what "
            f"{space.generation} computes for their images ({_some(differing)})"
        )
        cure = f"scrubjay doctor {workspace.folder} --repair --thorough && scrubjay backfill {workspace.folder}"
        yield Finding("error", what, cure)


def _vectors(workspace: Workspace) -> Iterator[Finding]:
    """Invalid vectors."""
    repair = f"scrubjay doctor {workspace.folder} --repair"
    for space in workspace.gallery.store.spaces():
        invalid = invalid_vectors(workspace, space)
        stale = {kind: names for kind, names in invalid.items() if kind in ("of no item", "of an older image")}
        damaged = {kind: names for kind, names in invalid.items() if kind not in stale}
        if damaged:
            some = _some([name for names in damaged.values() for name in names])
            what = f"space {space.id}: {counted(damaged)} vectors ({some})"
            yield Finding("error", what, f"{repair} && scrubjay backfill {workspace.folder}")
        if stale:
            yield Finding("note", f"space {space.id}: vectors {counted(stale)}; no search finds them", repair)


def _features(workspace: Workspace) -> Iterator[Finding]:
    """Features that are damaged, stale, wrong, missing, or of a trunk that no generation has."""
    folder, table = workspace.folder, workspace.gallery.store.features
    repair = f"scrubjay doctor {folder} --repair"
    for era, count in unused_eras(workspace, workspace.lineage.generations()):
        what = f"features of {count} items are of era {era}, which no generation uses"
        yield Finding("note", what, f"scrubjay prune {folder}")
    for era in table.codecs():
        invalid = invalid_features(workspace, era)
        damaged = invalid.pop("non-finite", [])
        if damaged:
            what = f"the features of {len(damaged)} items are not finite ({_some(damaged)})"
            yield Finding("error", what, repair)
        if invalid:
            yield Finding("note", f"features {counted(invalid)}; nothing reads them", repair)
    yield from _features_of_serving(workspace)


def _features_of_serving(workspace: Workspace) -> Iterator[Finding]:
    """Features of the serving generation's trunk that differ from its vectors, or are missing."""
    serving = _serving_generation(workspace)
    era = None if serving is None else era_of(workspace, serving)
    lacking = None if era is None else lacking_features(workspace.gallery.store, era)
    if serving is None or lacking is None:
        return
    compared, differing = differing_features(workspace, serving, SAMPLE)
    if differing:
        what = (
            f"the features of {len(differing)} of {compared} items in a sample give other vectors than {serving.name} "
            f"has of them ({_some(differing)})"
        )
        yield Finding("error", what, f"scrubjay doctor {workspace.folder} --repair --thorough")
    if lacking and workspace.feature_writer(serving) is not None:
        what = f"{len(lacking)} of {workspace.gallery.count()} items have no features: a backfill reads their images"
        cure = f"nothing, or to store them: scrubjay add {workspace.folder} PHOTOS"
        yield Finding("note", what, cure)


def _coverage(workspace: Workspace) -> Iterator[Finding]:
    """Items that no search finds, and items that are found by older vectors."""
    folder, store, searched = workspace.folder, workspace.gallery.store, _searched_spaces(workspace)
    unembedded = set.intersection(*(set(store.missing(space.id)) for space in searched)) if searched else set()
    readable = sum(1 for _ in intact(store.items(sorted(unembedded))))
    if readable:
        what = (
            f"{readable} items have no vector, so no search finds them: adding was interrupted, or their vectors were "
            "removed"
        )
        cure = f"scrubjay backfill {folder}, or repeat the interrupted `scrubjay add {folder} PHOTOS`"
        yield Finding("error", what, cure)
    if len(unembedded) > readable:
        what = (
            f"{len(unembedded) - readable} items have no vector, so no search finds them, and their images are missing "
            "or changed"
        )
        cure = f"scrubjay remove {folder} --gone, or restore the files: scrubjay backfill {folder}"
        yield Finding("error", what, cure)
    serving = _serving_generation(workspace)
    if serving is None:
        return
    held, missing = store.coverage(space_of(serving))
    bridged = missing - len(unembedded)
    if bridged > 0:
        what = f"{bridged} of {held + missing} items are found by vectors of other generations, over bridges"
        yield Finding("note", what, f"scrubjay backfill {folder} --plan")


def _files(workspace: Workspace) -> Iterator[Finding]:
    """Items whose image files are missing or have changed, and images that were sent and have no item any more."""
    folder = workspace.folder
    problems = [(item.uri, image_problem(item)) for item in workspace.gallery.store.items()]
    missing = [uri for uri, problem in problems if problem == MISSING]
    changed = [uri for uri, problem in problems if problem not in (None, MISSING)]
    if missing:
        what = f"{len(missing)} items whose file is missing ({_some(missing)}): they cannot be re-embedded"
        yield Finding("note", what, f"restore the files, or: scrubjay remove {folder} --gone")
    if changed:
        what = f"{len(changed)} items whose file has changed since it was added ({_some(changed)})"
        yield Finding("note", what, f"scrubjay add {folder} FILES, then: scrubjay remove {folder} --gone")
    if unused := unused_images(workspace):
        what = f"{len(unused)} images in {workspace.images.folder} without an item"
        yield Finding("note", what, f"scrubjay doctor {folder} --repair")


def _interrupted(workspace: Workspace) -> Iterator[Finding]:
    """Interrupted work, and the temporary files that it left behind."""
    folder = workspace.folder
    for path in interrupted_sessions(folder):
        what = f"{path.name}: learning was interrupted"
        yield Finding("note", what, f"repeat the same `scrubjay learn {folder} PHOTOS` to finish it")
    removal = RemovalRequest.pending(folder)
    if removal is not None:
        what = "a removal was interrupted: a part of the images is still there"
        yield Finding("error", what, removal.command(folder))
    change = workspace.lineage.class_names.unfinished
    if change is not None:
        what = (
            f"giving class {change.old!r} the name {change.new!r} was interrupted: a part of the items has the old name"
        )
        yield Finding("error", what, f"repeat it, or: scrubjay add {folder} PHOTOS")
    for path in sorted(folder.glob("backfill/*.jsonl")):
        progress = read_journal(path)
        if progress.state == "interrupted" and progress.generation == workspace.serving.read().generation:
            yield Finding("note", str(progress.summary()), f"scrubjay backfill {folder}")
    temporary = leftovers(folder)
    if temporary:
        names = _some([path.name for path in temporary])
        what = f"{len(temporary)} temporary files of interrupted work ({names})"
        yield Finding("note", what, f"scrubjay doctor {folder} --repair")


def _some(names: Sequence[str]) -> str:
    """The first names, and the number of the others."""
    more = f", … {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
