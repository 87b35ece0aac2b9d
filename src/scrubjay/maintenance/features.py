"""Finds stored trunk features that are damaged, belong to nothing, or differ from the vectors of their items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from scrubjay.errors import CheckpointError, SpaceError
from scrubjay.gallery.items import mismatched
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.generation import Generation
from scrubjay.workspace.workspace import Workspace

_BLOCK = 2048


def era_of(workspace: Workspace, generation: Generation) -> str | None:
    """The era of a generation's trunk; None where its network is damaged or the options of images were changed."""
    try:
        return workspace.encoder(generation).era
    except (CheckpointError, SpaceError):
        return None


def unused_eras(workspace: Workspace, generations: Iterable[Generation]) -> list[tuple[str, int]]:
    """Eras of stored features that none of these generations can use, each with its number of items.

    All eras are unused where the catalogue keeps no features any more. Nothing is reported while the trunk of one of
    the generations cannot be read.
    """
    table = workspace.gallery.store.features
    stored = table.codecs()
    if not stored:
        return []
    kept = workspace.options.gallery_features != "none"
    used = {era_of(workspace, generation) for generation in generations} if kept else set()
    if None in used:
        return []
    return [(era, workspace.gallery.count() - len(table.missing(era))) for era in stored if era not in used]


def invalid_features(workspace: Workspace, era: str) -> dict[str, list[str]]:
    """Ids of the invalid features of an era, by the kind of problem."""
    contents = {item.id: item.content_hash for item in workspace.gallery.store.items()}
    invalid: dict[str, list[str]] = {}
    for ids, hashes, codes in workspace.gallery.store.features.stored(era):
        damaged = set(np.flatnonzero(~np.isfinite(codes).all(axis=1)).tolist())
        for row, (name, content) in enumerate(zip(ids, hashes, strict=True)):
            if row in damaged:
                invalid.setdefault("non-finite", []).append(name)
            elif name not in contents:
                invalid.setdefault("of no item", []).append(name)
            elif contents[name] != content:
                invalid.setdefault("of an older image", []).append(name)
    return invalid


def differing_features(workspace: Workspace, generation: Generation, number: int | None) -> tuple[int, list[str]]:
    """Compare the stored features of items with their vectors in the space of a generation, by projecting them.

    Args:
        workspace: the open catalogue.
        generation: a generation whose vectors are in the gallery.
        number: number of items, chosen at random; None: all.

    Returns:
        How many items were compared, and the ids of those whose features give another vector.
    """
    store, space, era = workspace.gallery.store, space_of(generation), era_of(workspace, generation)
    if era is None or era not in store.features.codecs() or space not in store.spaces():
        return 0, []
    lacking = {*store.features.missing(era), *store.missing(space.id)}
    held = [item.id for item in store.items() if item.id not in lacking]
    chosen = [held[row] for row in np.random.default_rng(0).permutation(len(held))[:number]]
    compared, differing = 0, []
    for block in _blocks(chosen):
        names, features = store.features.read(era, block)
        checked, wrong = mismatched(store, space, names, workspace.encoder(generation).project(features))
        compared += len(checked)
        differing += wrong
    return compared, differing


def _blocks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _BLOCK] for start in range(0, len(ids), _BLOCK))
