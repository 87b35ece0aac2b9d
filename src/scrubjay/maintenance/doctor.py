"""What is wrong with a catalogue, what that means, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from scrubjay.backfill.state import read_journal
from scrubjay.errors import CheckpointError, ScrubjayError, UserError
from scrubjay.gallery.items import MISSING, image_problem, intact
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.generation import Generation
from scrubjay.maintenance.repair import counted, foreign_vectors, invalid_vectors, leftovers
from scrubjay.models.checkpoint import load_tensors
from scrubjay.stores import Space
from scrubjay.workspace.workspace import Workspace

SAMPLE = 16
"""Items of each space that are embedded again, to see whether their vectors are of that space."""
SHOWN = 3

Kind = Literal["error", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check has found.

    Attributes:
        kind: "error" when answers suffer or something was lost; "note" when it may stay as it is.
        what: what it is, with how many and which.
        cure: the command that mends it, or what to do.
    """

    kind: Kind
    what: str
    cure: str


def examine(workspace: Workspace) -> list[Finding]:
    """All that is wrong with a catalogue; nothing is changed."""
    checks = (_generations, _serving, _judges, _spaces, _vectors, _coverage, _files, _interrupted)
    found: list[Finding] = []
    for check in checks:
        try:
            found += check(workspace)
        except UserError:
            raise
        except ScrubjayError as error:
            found.append(Finding("error", str(error), f"restore {workspace.folder} from a copy"))
    return found


def _generations(workspace: Workspace) -> Iterator[Finding]:
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


def _serving(workspace: Workspace) -> Iterator[Finding]:
    names = [generation.name for generation in workspace.lineage.generations()]
    now = workspace.serving.read()
    if now.generation is None and names:
        cure = f"scrubjay promote {workspace.folder} {names[-1]}"
        yield Finding("error", "no generation answers queries", cure)
    elif now.generation is not None and now.generation not in names:
        other = names[-1] if names else "GENERATION"
        cure = f"restore generations/{now.generation}, or: scrubjay rollback {workspace.folder} {other}"
        yield Finding("error", f"{now.generation} answers queries and is not there", cure)


def _judges(workspace: Workspace) -> Iterator[Finding]:
    """The probe set and the calibrations."""
    for generation in workspace.lineage.generations():
        try:
            probes = workspace.probe_set.probes([generation.name])
            gone = [str(probe.sample.path) for probe in probes if probe.sample and not probe.sample.path.is_file()]
            if gone:
                cure = "restore them from a copy; the gate cannot judge without them"
                yield Finding("error", f"{len(gone)} probe images are gone ({_some(gone)})", cure)
        except CheckpointError as error:
            yield Finding("error", str(error), "see what it says; searches are not touched by it")
        try:
            workspace.calibrations(generation)
        except CheckpointError as error:
            cure = f"rm {workspace.calibrations_path(generation)} && scrubjay backfill {workspace.folder}"
            yield Finding("error", str(error), cure)


def _spaces(workspace: Workspace) -> Iterator[Finding]:
    store, folder = workspace.gallery.store, workspace.folder
    reached = _reached(workspace)
    for space in store.spaces():
        generation, held = workspace.generation_of(space), store.coverage(space)[0]
        cure = f"scrubjay backfill {folder} && scrubjay prune {folder}"
        if generation is not None and generation.fingerprint != space.fingerprint:
            what = f"its {held} vectors are foreign: not of {space.generation} as it is here; they are never found"
            yield Finding("error", f"space {space.id}: {what}", cure)
        elif space not in reached:
            what = f"{held} vectors of {space.generation}, which no bridge reaches: they are never found"
            yield Finding("error", f"space {space.id}: {what}", cure)
        elif generation is not None:
            yield from _mixed(workspace, space, generation)


def _reached(workspace: Workspace) -> list[Space]:
    """The spaces that a search visits; all of them as long as nothing answers."""
    serving, spaces = _answers(workspace), workspace.gallery.store.spaces()
    return spaces if serving is None else workspace.bridge_paths.reachable(serving.name, spaces)


def _answers(workspace: Workspace) -> Generation | None:
    """The generation that answers; None where there is none, or it is not there."""
    name = workspace.serving.read().generation
    return next((each for each in workspace.lineage.generations() if each.name == name), None)


def _mixed(workspace: Workspace, space: Space, generation: Generation) -> Iterator[Finding]:
    looked, wrong = foreign_vectors(workspace, space, generation, SAMPLE)
    if wrong:
        what = (
            f"space {space.id} is mixed: {len(wrong)} of {looked} vectors looked at are not what {space.generation} "
            f"makes of their images ({_some(wrong)})"
        )
        cure = f"scrubjay doctor {workspace.folder} --mend --thorough && scrubjay backfill {workspace.folder}"
        yield Finding("error", what, cure)


def _vectors(workspace: Workspace) -> Iterator[Finding]:
    mend = f"scrubjay doctor {workspace.folder} --mend"
    for space in workspace.gallery.store.spaces():
        wrong = invalid_vectors(workspace, space)
        rest = {kind: names for kind, names in wrong.items() if kind in ("of no item", "of an older image")}
        serious = {kind: names for kind, names in wrong.items() if kind not in rest}
        if serious:
            some = _some([name for names in serious.values() for name in names])
            what = f"space {space.id}: {counted(serious)} vectors ({some})"
            yield Finding("error", what, f"{mend} && scrubjay backfill {workspace.folder}")
        if rest:
            yield Finding("note", f"space {space.id}: vectors {counted(rest)}; no search finds them", mend)


def _coverage(workspace: Workspace) -> Iterator[Finding]:
    folder, store, reached = workspace.folder, workspace.gallery.store, _reached(workspace)
    lost = set.intersection(*(set(store.missing(space.id)) for space in reached)) if reached else set()
    there = sum(1 for _ in intact(store.items(sorted(lost))))
    if there:
        what = f"{there} items have no vector and are never found: adding was cut short, or their vectors were removed"
        yield Finding("error", what, f"scrubjay backfill {folder}, or the same `scrubjay add {folder} PHOTOS` again")
    if len(lost) > there:
        what = f"{len(lost) - there} items have no vector and are never found, and their images are gone or changed"
        yield Finding(
            "error", what, f"scrubjay remove {folder} --gone, or restore the files: scrubjay backfill {folder}"
        )
    serving = _answers(workspace)
    held, waiting = (0, 0) if serving is None else store.coverage(space_of(serving))
    if waiting - len(lost) > 0:
        what = (
            f"{waiting - len(lost)} of {held + waiting} items are found by vectors of other generations, over bridges"
        )
        yield Finding("note", what, f"scrubjay backfill {folder} --plan")


def _files(workspace: Workspace) -> Iterator[Finding]:
    folder = workspace.folder
    problems = [(item.uri, image_problem(item)) for item in workspace.gallery.store.items()]
    missing = [uri for uri, problem in problems if problem == MISSING]
    changed = [uri for uri, problem in problems if problem not in (None, MISSING)]
    if missing:
        what = f"{len(missing)} items whose file is missing ({_some(missing)}): they cannot be embedded again"
        yield Finding("note", what, f"restore the files, or: scrubjay remove {folder} --gone")
    if changed:
        what = f"{len(changed)} items whose file has changed since it was added ({_some(changed)})"
        yield Finding("note", what, f"scrubjay add {folder} FILES, then: scrubjay remove {folder} --gone")


def _interrupted(workspace: Workspace) -> Iterator[Finding]:
    folder = workspace.folder
    for path in sorted(folder.glob("session-g*.safetensors")):
        yield Finding(
            "note", f"{path.name}: learning was cut short", f"the same `scrubjay learn {folder} PHOTOS` again"
        )
    for path in sorted(folder.glob("backfill/*.jsonl")):
        progress = read_journal(path)
        if progress.state == "interrupted" and progress.generation == workspace.serving.read().generation:
            yield Finding("note", str(progress.summary()), f"scrubjay backfill {folder}")
    left = leftovers(folder)
    if left:
        what = f"{len(left)} temporary files of work that was cut short ({_some([path.name for path in left])})"
        yield Finding("note", what, f"scrubjay doctor {folder} --mend")


def _some(names: Sequence[str]) -> str:
    more = f", … {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
