"""Finds and deletes vectors, features and files that nothing reads, and generations that no bridge path uses."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from scrubjay.errors import CatalogueError
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.generation import Generation
from scrubjay.maintenance.features import unused_eras
from scrubjay.stores import Space
from scrubjay.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Prunable:
    """What can be deleted.

    Attributes:
        spaces: embedding spaces, each with its number of current vectors.
        generations: generations, each with its size in bytes.
        files: backbones and statistics that no other generation uses, each with its size in bytes.
        eras: eras of stored trunk features, each with its number of items.
    """

    spaces: tuple[tuple[Space, int], ...] = ()
    generations: tuple[tuple[Generation, int], ...] = ()
    files: tuple[tuple[Path, int], ...] = ()
    eras: tuple[tuple[str, int], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.spaces or self.generations or self.files or self.eras)


def prunable(workspace: Workspace) -> Prunable:
    """Find vectors and generations that nothing needs any more.

    Vectors are needed if they are of the serving generation or of the one that a rollback leads to, or if they are the
    only vectors by which some item is found. A generation is needed if it is the serving generation, the one that a
    rollback leads to, the shadow generation or the newest, or if the path of bridges from the serving generation to one
    of these, or to a space that is kept, leads over it. Features are needed if a generation that is
    kept has their trunk.
    """
    serving = workspace.serving.read()
    kept = {name for name in (serving.generation, serving.previous) if name is not None}
    if serving.generation is None:
        return Prunable()
    spaces = _unneeded(workspace, serving.generation, kept)
    dropped = {space.id for space, _ in spaces}
    newest = workspace.lineage.newest
    ends = kept | {space.generation for space in workspace.gallery.store.spaces() if space.id not in dropped}
    if newest is not None:
        ends.add(newest.name)
    if serving.shadow is not None:
        ends.add(serving.shadow.generation)
    on_paths = {name for end in ends for name in _path(workspace, serving.generation, end)}
    generations = workspace.lineage.generations()
    unused = [generation for generation in generations if generation.name not in on_paths]
    files = workspace.lineage.unused_files([generation.name for generation in unused])
    return Prunable(
        spaces,
        tuple((generation, _bytes(generation)) for generation in unused),
        tuple((path, path.stat().st_size) for path in files),
        tuple(unused_eras(workspace, [each for each in generations if each.name in on_paths])),
    )


def prune(workspace: Workspace, what: Prunable) -> None:
    """Delete what `prunable` found, except what is needed by now.

    Vectors are deleted first, then features, generations and files that no other generation uses.
    """
    current = prunable(workspace)  # another generation may have been promoted since
    for space in {space for space, _ in what.spaces} & {space for space, _ in current.spaces}:
        workspace.gallery.store.drop_space(space.id)
    for era in {era for era, _ in what.eras} & {era for era, _ in current.eras}:
        workspace.gallery.store.features.drop(era)
    names = {generation.name for generation, _ in what.generations}
    for generation, _ in current.generations:
        if generation.name not in names:
            continue
        # Renamed first, because the deletion is not atomic; doctor --repair removes a folder of this name.
        renamed = generation.folder.with_name(f".{generation.name}.0")
        generation.folder.rename(renamed)
        shutil.rmtree(renamed)
    for path in {path for path, _ in what.files} & set(workspace.lineage.unused_files()):
        path.unlink()
    workspace.gallery.store.maintain()


def _unneeded(workspace: Workspace, serving: str, kept: set[str]) -> tuple[tuple[Space, int], ...]:
    """Spaces without which every item that is found now is still found; the farthest space is examined first."""
    store = workspace.gallery.store
    spaces = store.spaces()
    searched = workspace.bridge_paths.reachable(serving, spaces)
    own = {space_of(generation).id for generation in workspace.lineage.generations() if generation.name in kept}
    farthest_first = [space for space in spaces if space not in searched] + list(reversed(searched))
    remaining, unneeded = list(spaces), []
    missing = {space.id: set(store.missing(space.id)) for space in spaces}
    for space in farthest_first:
        others = [missing[other.id] for other in remaining if other != space and other in searched]
        if space.id in own or not others:
            continue
        if space in searched and not set.intersection(*others) <= missing[space.id]:
            continue
        remaining.remove(space)
        unneeded.append((space, store.coverage(space)[0]))
    return tuple(unneeded)


def _path(workspace: Workspace, source: str, target: str) -> list[str]:
    """Names of the generations on the path of bridges between two generations."""
    try:
        return workspace.lineage.path(source, target)
    except CatalogueError:  # the target was deleted, or shares no ancestor with the source
        return [target]


def _bytes(generation: Generation) -> int:
    """Size of a generation on disk."""
    return sum(file.stat().st_size for file in generation.folder.iterdir())
