"""Merges two catalogues over the same trunk into a new one: what both have learned, their items and probe images.

The new catalogue is a copy of the first one with one more generation, whose session is all that the second one has
learned. It is built beside its place and appears complete; until its backfill is complete, items of the second
catalogue are not found.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from scrubjay.errors import CatalogueError, SpaceError, StorageError
from scrubjay.gallery.transfer import copy
from scrubjay.generations.generation import Generation
from scrubjay.generations.session_statistics import SessionStatistics, combined
from scrubjay.io.atomic import write_json
from scrubjay.learning.successor import add_successor
from scrubjay.promotion.calibrate import calibrate
from scrubjay.workspace.migrations import FORMAT
from scrubjay.workspace.removal_request import RemovalRequest
from scrubjay.workspace.workspace import Workspace

COPIED = ("generations", "probe", "calibration", "serving.json")
"""Folders and files of the first catalogue that the new one starts with, besides its options and its gallery."""
BLOCK = 256
"""Number of items that are copied in one commit."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of a merge.

    Attributes:
        generation: name of the new generation, which answers queries.
        classes: number of classes of the new catalogue.
        shared: names of the classes that both catalogues have learned.
        items: number of items that only the second catalogue held.
        repeated: number of training images that both had learned; each counts once, if its features were stored.
        left_out: number of probe images of the second catalogue of which only embeddings are kept.
    """

    generation: str
    classes: int
    shared: tuple[str, ...]
    items: int
    repeated: int
    left_out: int


def merge(first: Workspace, second: Workspace, out: Path) -> Merged:
    """Make a catalogue of two; both stay as they are.

    Args:
        first: its options, generations and metric settings are those of the new catalogue.
        second: what it has learned is added.
        out: a new or empty folder.

    Raises:
        CatalogueError: the folder is in use, or a catalogue has not learned in closed form.
        SpaceError: the catalogues have different trunks.
        StorageError: the disk is full; nothing is left behind.
    """
    if os.path.exists(out) and (not os.path.isdir(out) or os.listdir(out)):
        raise CatalogueError(f"{out}: is in use; name a new or empty folder for the merged catalogue.")
    for workspace in (first, second):
        RemovalRequest.refuse_pending(workspace.folder)
    _check_trunks(first, second)
    building = out.absolute().with_name(f".{out.absolute().name}.merging")
    shutil.rmtree(building, ignore_errors=True)  # left by a merge that was killed
    try:
        _copy_first(first, building)
        merged = _add_second(Workspace(building), second)
        for workspace in (first, second):
            _adopt_images(Workspace(building), workspace, out.absolute())
        if out.exists():
            out.rmdir()
        building.rename(out)
    except OSError as error:
        raise StorageError(f"{out}: could not be written ({error.strerror or error}): free some space.") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return merged


def _check_trunks(first: Workspace, second: Workspace) -> None:
    """Make sure that what both catalogues have learned can be added."""
    serving = [workspace.serving_generation() for workspace in (first, second)]
    for workspace, generation in zip((first, second), serving, strict=True):
        if not generation.info.statistics:
            raise CatalogueError(
                f"{workspace.folder}: {generation.name} was learned with {generation.info.method['name']!r}, not in "
                "closed form, so what it has learned cannot be added to another: learn it again with the method slda."
            )
    eras = [workspace.encoder(each).era for workspace, each in zip((first, second), serving, strict=True)]
    if eras[0] != eras[1]:
        described = " and ".join(
            f"{workspace.folder} ({each.info.network.backbone}, {workspace.options.images.size} px, era {era[:12]})"
            for workspace, each, era in zip((first, second), serving, eras, strict=True)
        )
        raise SpaceError(
            f"{described} have different trunks, so what they have learned cannot be added: learn the images of one in "
            "the other with scrubjay learn."
        )


def _copy_first(first: Workspace, folder: Path) -> None:
    """Copy the first catalogue; its gallery is copied into the folder, wherever it was stored."""
    folder.mkdir(parents=True)
    for name in COPIED:
        source = first.folder / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.exists():
            shutil.copy2(source, folder / name)
    options = first.options.model_copy(update={"store": None})
    write_json(folder / "catalogue.json", {"format": FORMAT, **options.model_dump(mode="json")})
    if first.gallery.count():
        copy(first.gallery.store, Workspace(folder).gallery.store)


def _adopt_images(target: Workspace, source: Workspace, out: Path) -> None:
    """Copy the images that were sent to a catalogue, and let the items of the target name the copies.

    Args:
        target: the merged catalogue, which is still being built.
        source: one of the two.
        out: absolute path that the target is going to have.
    """
    copies = {}
    for path in source.images.paths():
        place = path.relative_to(source.images.folder)
        (target.images.folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target.images.folder / place)
        copies[path.stem] = str(out / "images" / place)
    store, ids = target.gallery.store, list(copies)
    for start in range(0, len(ids), BLOCK):
        items = store.items(ids[start : start + BLOCK])
        store.put_items(
            replace(item, uri=copies[item.id]) for item in items if Path(item.uri).is_relative_to(source.images.folder)
        )


def _add_second(target: Workspace, second: Workspace) -> Merged:
    """Add what the second catalogue has learned and holds to the copy of the first one."""
    parent, other = target.serving_generation(), second.serving_generation()
    sessions = [second.lineage.statistics.get(name) for name in other.info.statistics]
    known = {name for each in parent.info.statistics for name in target.lineage.statistics.hashes(each)}
    sessions, repeated = _without_repeated(sessions, known)
    shared = tuple(name for name in other.classes if name in parent.classes)
    generation = add_successor(target, parent, combined(sessions))
    left_out = _add_probes(target, second, generation)
    items = _add_items(target, second, generation)
    calibrate(target, generation)
    revision = target.serving.read().revision
    reason = f"merged with {second.folder}"
    target.serving.change("promote", generation.name, revision, forced=True, reasons=(reason,))
    return Merged(generation.name, len(generation.classes), shared, items, repeated, left_out)


def _without_repeated(sessions: list[SessionStatistics], known: set[str]) -> tuple[list[SessionStatistics], int]:
    """The sessions without images that are known, where their features are stored; and the number of these images."""
    left, repeated = [], 0
    for session in sessions:
        images = session.having((), known)
        repeated += len(images.hashes)
        left.append(session if images.features is None else session.without((), known, {}))
    return left, repeated


def _add_probes(target: Workspace, second: Workspace, generation: Generation) -> int:
    """Copy the probe images of the second catalogue; returns the number of those that are not kept as images."""
    probes = second.probe_set.probes(second.lineage.line(second.serving_generation().name))
    held = {probe.id for probe in target.probe_set.probes(target.lineage.line(generation.name))}
    copies = [probe for probe in probes if probe.sample is not None and probe.id not in held]
    target.probe_set.adopt(generation.name, copies)
    return sum(probe.sample is None for probe in probes)


def _add_items(target: Workspace, second: Workspace, generation: Generation) -> int:
    """Add the items that the target does not hold with their trunk features, without vectors; returns their number."""
    encoder, writer = target.encoder(generation), target.feature_writer(generation)
    source, store = second.gallery.store, target.gallery.store
    stored = encoder.era in source.features.codecs()
    known = {item.id for item in store.items()}
    new = (item for item in source.items() if item.id not in known)
    number = 0
    while block := list(islice(new, BLOCK)):
        store.put_items(block)
        if stored and writer is not None:
            writer.write(encoder, *source.features.read(encoder.era, [item.id for item in block]))
        number += len(block)
    return number
