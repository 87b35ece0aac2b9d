"""What is wrong with a catalogue, what that means, and the command that mends it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from scrubjay.adding import sample_of
from scrubjay.answering import Answering
from scrubjay.backfill.progress import read_journal
from scrubjay.data.photos import content_hash
from scrubjay.errors import CheckpointError, DataError, ScrubjayError, UserError
from scrubjay.lineage import Generation
from scrubjay.models.checkpoint import load_tensors
from scrubjay.probe import ProbeSet
from scrubjay.routes import space_of
from scrubjay.stores import NORM_TOLERANCE, Item, Space

SAMPLE = 16
"""Items of each space that are embedded again, to see whether their vectors are of that space."""
BATCH = 64
ALIKE = 0.999
"""The least cosine of a vector with the same picture embedded again."""
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


def examine(answering: Answering) -> list[Finding]:
    """All that is wrong with a catalogue; nothing is changed."""
    checks = (_generations, _serving, _judges, _spaces, _vectors, _coverage, _files, _interrupted)
    found: list[Finding] = []
    for check in checks:
        try:
            found += check(answering)
        except UserError:
            raise
        except ScrubjayError as error:
            found.append(Finding("error", str(error), f"restore {answering.folder} from a copy"))
    return found


def mend(answering: Answering, thorough: bool = False) -> list[str]:
    """Remove what cannot be right: vectors that are damaged, double or of nothing, and what killed work left behind.

    Items stay; those whose vectors went count as not embedded, and a backfill embeds them again.

    Args:
        answering: of the catalogue.
        thorough: embed every picture that can be had again, and remove the vectors that are of another space.

    Returns:
        What was done, a line each.
    """
    store, done = answering.gallery.store, []
    for space in store.spaces():
        wrong = _wrong(answering, space)
        generation = _generation(answering, space)
        if thorough and generation is not None and generation.fingerprint == space.fingerprint:
            strangers = _strangers(answering, space, generation, None)[1]
            wrong |= {"of another space": strangers} if strangers else {}
        ids = {name for names in wrong.values() for name in names}
        if ids:
            removed = store.drop_embeddings(space.id, ids)
            done.append(f"removed {removed} vectors of {space.generation}: {_counts(wrong)}")
    for path in _leftovers(answering.folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        done.append(f"removed {path}, left by work that was cut short")
    store.maintain()
    return done


def _generations(answering: Answering) -> Iterator[Finding]:
    for generation in answering.lineage.generations():
        for name in ("network", "method", "bridges", "session"):
            path = generation.folder / f"{name}.safetensors"
            needed = name == "network" or (name == "bridges" and bool(generation.info.get("bridges")))
            if not needed and not path.exists():
                continue
            try:
                load_tensors(path, "restore it from a copy")
            except CheckpointError as error:
                yield Finding("error", str(error), f"restore {path} from a copy; other generations are untouched")


def _serving(answering: Answering) -> Iterator[Finding]:
    names = [generation.name for generation in answering.lineage.generations()]
    now = answering.serving.read()
    if now.generation is None and names:
        cure = f"scrubjay promote {answering.folder} {names[-1]}"
        yield Finding("error", "no generation answers queries", cure)
    elif now.generation is not None and now.generation not in names:
        other = names[-1] if names else "GENERATION"
        cure = f"restore generations/{now.generation}, or: scrubjay rollback {answering.folder} {other}"
        yield Finding("error", f"{now.generation} answers queries and is not there", cure)


def _judges(answering: Answering) -> Iterator[Finding]:
    """The probe set and the calibrations."""
    for generation in answering.lineage.generations():
        try:
            probes = ProbeSet(answering.folder / "probe").probes([generation.name])
            gone = [str(probe.sample.path) for probe in probes if probe.sample and not probe.sample.path.is_file()]
            if gone:
                cure = "restore them from a copy; the gate cannot judge without them"
                yield Finding("error", f"{len(gone)} probe pictures are gone ({_some(gone)})", cure)
        except CheckpointError as error:
            yield Finding("error", str(error), "see what it says; searches are not touched by it")
        try:
            answering.calibrations(generation)
        except CheckpointError as error:
            cure = f"rm {answering.calibrations_path(generation)} && scrubjay backfill {answering.folder}"
            yield Finding("error", str(error), cure)


def _spaces(answering: Answering) -> Iterator[Finding]:
    store, folder = answering.gallery.store, answering.folder
    reached = _reached(answering)
    for space in store.spaces():
        generation, held = _generation(answering, space), store.coverage(space)[0]
        cure = f"scrubjay backfill {folder} && scrubjay prune {folder}"
        if generation is not None and generation.fingerprint != space.fingerprint:
            what = f"its {held} vectors are foreign: not of {space.generation} as it is here; they are never found"
            yield Finding("error", f"space {space.id}: {what}", cure)
        elif space not in reached:
            what = f"{held} vectors of {space.generation}, which no bridge reaches: they are never found"
            yield Finding("error", f"space {space.id}: {what}", cure)
        elif generation is not None:
            yield from _mixed(answering, space, generation)


def _reached(answering: Answering) -> list[Space]:
    """The spaces that a search visits; all of them as long as nothing answers."""
    serving, spaces = _answers(answering), answering.gallery.store.spaces()
    return spaces if serving is None else answering.routes.order(serving.name, spaces)


def _answers(answering: Answering) -> Generation | None:
    """The generation that answers; None where there is none, or it is not there."""
    name = answering.serving.read().generation
    return next((each for each in answering.lineage.generations() if each.name == name), None)


def _mixed(answering: Answering, space: Space, generation: Generation) -> Iterator[Finding]:
    looked, wrong = _strangers(answering, space, generation, SAMPLE)
    if wrong:
        what = (
            f"space {space.id} is mixed: {len(wrong)} of {looked} vectors looked at are not what {space.generation} "
            f"makes of their pictures ({_some(wrong)})"
        )
        cure = f"scrubjay doctor {answering.folder} --mend --thorough && scrubjay backfill {answering.folder}"
        yield Finding("error", what, cure)


def _strangers(answering: Answering, space: Space, generation: Generation, number: int | None) -> tuple[int, list[str]]:
    """Items of a space whose vectors its generation did not make, among some or all whose pictures can be had."""
    store = answering.gallery.store
    ids, _ = store.vectors(space.id)
    chosen = [ids[index] for index in np.random.default_rng(0).permutation(len(ids))]
    items = islice(intact(item for name in chosen for item in store.items([name])), number)
    looked, wrong = 0, []
    while batch := list(islice(items, BATCH)):
        embedded = answering.embed(generation, [sample_of(item) for item in batch])
        kept = [batch[index].id for index in embedded.indices]
        _, stored = store.vectors(space.id, kept)
        cosines = np.vecdot(stored, embedded.vectors)
        wrong += [name for name, cosine in zip(kept, cosines, strict=True) if not cosine >= ALIKE]
        looked += len(kept)
    return looked, wrong


def _vectors(answering: Answering) -> Iterator[Finding]:
    mend = f"scrubjay doctor {answering.folder} --mend"
    for space in answering.gallery.store.spaces():
        wrong = _wrong(answering, space)
        rest = {kind: names for kind, names in wrong.items() if kind in ("of no item", "of an older picture")}
        serious = {kind: names for kind, names in wrong.items() if kind not in rest}
        if serious:
            some = _some([name for names in serious.values() for name in names])
            what = f"space {space.id}: {_counts(serious)} vectors ({some})"
            yield Finding("error", what, f"{mend} && scrubjay backfill {answering.folder}")
        if rest:
            yield Finding("note", f"space {space.id}: vectors {_counts(rest)}; no search finds them", mend)


def _wrong(answering: Answering, space: Space) -> dict[str, list[str]]:
    """Ids in a space whose vectors cannot be right, by what is wrong."""
    store = answering.gallery.store
    contents = {item.id: item.content_hash for item in store.items()}
    seen: Counter[str] = Counter()
    found: dict[str, list[str]] = {}
    for ids, hashes, vectors in store.stored(space.id):
        seen.update(ids)
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        for name, content, norm in zip(ids, hashes, norms, strict=True):
            kind = _problem(contents.get(name), content, float(norm))
            if kind is not None:
                found.setdefault(kind, []).append(name)
    double = [name for name, number in seen.items() if number > 1]
    return {**found, "duplicate": double} if double else found


def _problem(expected: str | None, content: str, norm: float) -> str | None:
    if not np.isfinite(norm):
        return "non-finite"
    if abs(norm - 1) > NORM_TOLERANCE:
        return "unnormalised"
    if expected is None:
        return "of no item"
    return "of an older picture" if content != expected else None


def _coverage(answering: Answering) -> Iterator[Finding]:
    folder, store, reached = answering.folder, answering.gallery.store, _reached(answering)
    lost = set.intersection(*(set(store.missing(space.id)) for space in reached)) if reached else set()
    there = sum(1 for _ in intact(store.items(sorted(lost))))
    if there:
        what = f"{there} items have no vector and are never found: adding was cut short, or their vectors were removed"
        yield Finding("error", what, f"scrubjay backfill {folder}, or the same `scrubjay add {folder} PHOTOS` again")
    if len(lost) > there:
        what = f"{len(lost) - there} items have no vector and are never found, and their pictures are gone or changed"
        yield Finding(
            "error", what, f"scrubjay remove {folder} --gone, or restore the files: scrubjay backfill {folder}"
        )
    serving = _answers(answering)
    held, waiting = (0, 0) if serving is None else store.coverage(space_of(serving))
    if waiting - len(lost) > 0:
        what = (
            f"{waiting - len(lost)} of {held + waiting} items are found by vectors of other generations, over bridges"
        )
        yield Finding("note", what, f"scrubjay backfill {folder} --plan")


def _files(answering: Answering) -> Iterator[Finding]:
    gone: list[str] = []
    changed: list[str] = []
    for item in answering.gallery.store.items():
        if not Path(item.uri).is_file():
            gone.append(item.uri)
        elif not list(intact([item])):
            changed.append(item.uri)
    if gone:
        what = f"{len(gone)} items whose file is gone ({_some(gone)}): they cannot be embedded again"
        yield Finding("note", what, f"restore the files, or: scrubjay remove {answering.folder} --gone")
    if changed:
        what = f"{len(changed)} items whose file has changed since ({_some(changed)})"
        yield Finding(
            "note", what, f"scrubjay add {answering.folder} FILES, then: scrubjay remove {answering.folder} --gone"
        )


def _interrupted(answering: Answering) -> Iterator[Finding]:
    folder = answering.folder
    for path in sorted(folder.glob("session-g*.safetensors")):
        yield Finding(
            "note", f"{path.name}: learning was cut short", f"the same `scrubjay learn {folder} PHOTOS` again"
        )
    for path in sorted(folder.glob("backfill/*.jsonl")):
        told = read_journal(path)
        if told.state == "interrupted" and told.generation == answering.serving.read().generation:
            yield Finding("note", str(told.line(folder)).partition("; it goes")[0], f"scrubjay backfill {folder}")
    left = _leftovers(folder)
    if left:
        what = f"{len(left)} temporary files of work that was cut short ({_some([path.name for path in left])})"
        yield Finding("note", what, f"scrubjay doctor {folder} --mend")


def _leftovers(folder: Path) -> list[Path]:
    """What processes that were killed had begun to write; they are numbered by their process."""
    places = (folder, folder / "generations", folder / "probe", folder / "calibration", *folder.glob("probe/g*"))
    return sorted(path for place in places for path in place.glob(".*.[0-9]*"))


def intact(items: Iterable[Item]) -> Iterator[Item]:
    """Those whose pictures are what they were when they were added."""
    for item in items:
        try:
            if content_hash(sample_of(item)) == item.content_hash:
                yield item
        except DataError:
            continue


def _generation(answering: Answering, space: Space) -> Generation | None:
    return next((each for each in answering.lineage.generations() if each.name == space.generation), None)


def _counts(wrong: Mapping[str, list[str]]) -> str:
    return ", ".join(f"{len(names)} {kind}" for kind, names in sorted(wrong.items()))


def _some(names: Sequence[str]) -> str:
    more = f", … {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
