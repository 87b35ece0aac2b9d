"""Finds vectors and features that are invalid and files that interrupted work left behind, and removes them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from scrubjay.gallery.items import intact, mismatched, sample_of
from scrubjay.generations.generation import Generation
from scrubjay.maintenance.features import differing_features, era_of, invalid_features
from scrubjay.stores import NORM_TOLERANCE, Space
from scrubjay.workspace.workspace import Workspace

BATCH = 64


def repair(workspace: Workspace, thorough: bool = False) -> list[str]:
    """Remove vectors and features that are damaged or without an item, and the temporary files of interrupted work.

    Items stay. Those whose vectors were removed count as not embedded, and a backfill embeds them again.

    Args:
        workspace: the open catalogue.
        thorough: embed every readable image again, and remove the vectors that differ; then the features that give
            another vector than is stored.

    Returns:
        What was done, one line for each action.
    """
    store, actions = workspace.gallery.store, []
    for space in store.spaces():
        invalid = invalid_vectors(workspace, space)
        generation = workspace.generation_of(space)
        if thorough and generation is not None and generation.fingerprint == space.fingerprint:
            _, differing = foreign_vectors(workspace, space, generation, None)
            if differing:
                invalid["of another space"] = differing
        ids = {name for names in invalid.values() for name in names}
        if ids:
            removed = store.drop_embeddings(space.id, ids)
            actions.append(f"removed {removed} vectors of {space.generation}: {counted(invalid)}")
    actions += _repair_features(workspace, thorough)
    for path in unused_images(workspace):
        path.unlink()
        actions.append(f"removed {path}, an image without an item")
    for path in leftovers(workspace.folder):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        actions.append(f"removed {path}, left behind by interrupted work")
    store.maintain()
    return actions


def _repair_features(workspace: Workspace, thorough: bool) -> Iterator[str]:
    """Remove invalid features; describes each action."""
    table = workspace.gallery.store.features
    for era in table.codecs():
        invalid = invalid_features(workspace, era)
        for generation in workspace.lineage.generations() if thorough else ():
            if era_of(workspace, generation) == era:
                invalid.setdefault("that give another vector", []).extend(
                    differing_features(workspace, generation, None)[1]
                )
        ids = {name for names in invalid.values() for name in names}
        if ids:
            yield f"removed the features of {table.remove(era, ids)} items: {counted(invalid)}"


def invalid_vectors(workspace: Workspace, space: Space) -> dict[str, list[str]]:
    """Ids of the invalid vectors in a space, by the kind of problem."""
    store = workspace.gallery.store
    contents = {item.id: item.content_hash for item in store.items()}
    counts: Counter[str] = Counter()
    invalid: dict[str, list[str]] = {}
    for ids, hashes, vectors in store.stored(space.id):
        counts.update(ids)
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        for name, content, norm in zip(ids, hashes, norms, strict=True):
            kind = _problem(contents.get(name), content, float(norm))
            if kind is not None:
                invalid.setdefault(kind, []).append(name)
    duplicates = [name for name, number in counts.items() if number > 1]
    if duplicates:
        invalid["duplicate"] = duplicates
    return invalid


def _problem(expected: str | None, content: str, norm: float) -> str | None:
    if not np.isfinite(norm):
        return "non-finite"
    if abs(norm - 1) > NORM_TOLERANCE:
        return "unnormalised"
    if expected is None:
        return "of no item"
    return "of an older image" if content != expected else None


def foreign_vectors(
    workspace: Workspace, space: Space, generation: Generation, number: int | None
) -> tuple[int, list[str]]:
    """Look for vectors in a space that its generation did not compute, by embedding readable images again.

    Args:
        workspace: the open catalogue.
        space: the space.
        generation: the generation of the space.
        number: number of images to embed, chosen at random; None: all.

    Returns:
        How many vectors were compared, and the ids of those that differ.
    """
    store = workspace.gallery.store
    ids, _ = store.vectors(space.id)
    shuffled = [ids[index] for index in np.random.default_rng(0).permutation(len(ids))]
    items = islice(intact(item for name in shuffled for item in store.items([name])), number)
    compared, differing = 0, []
    while batch := list(islice(items, BATCH)):
        embedded = workspace.embed(generation, [sample_of(item) for item in batch])
        kept = [batch[index].id for index in embedded.indices]
        checked, wrong = mismatched(store, space, kept, embedded.vectors)
        compared += len(checked)
        differing += wrong
    return compared, differing


def unused_images(workspace: Workspace) -> list[Path]:
    """Images that were sent to the catalogue and whose item does not exist."""
    return workspace.images.unused(set(workspace.gallery.store.labels()[0]))


def leftovers(folder: Path) -> list[Path]:
    """Temporary files of processes that were killed; their names end in the number of the process."""
    names = ("generations", "generations/trunks", "generations/statistics", "probe", "calibration")
    places = (folder, *(folder / name for name in names), *folder.glob("probe/g*"), *folder.glob("images/*"))
    return sorted(path for place in places for path in place.glob(".*.[0-9]*"))


def counted(invalid: Mapping[str, list[str]]) -> str:
    """The number of vectors of each kind, as text."""
    return ", ".join(f"{len(names)} {kind}" for kind, names in sorted(invalid.items()) if names)
