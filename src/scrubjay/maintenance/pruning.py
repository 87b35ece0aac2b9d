"""What a catalogue keeps that nothing needs any more: vectors that no search reads, generations that lead nowhere."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from scrubjay.errors import CatalogueError
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.generation import Generation
from scrubjay.stores import Space
from scrubjay.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Prunable:
    """What may go.

    Attributes:
        spaces: with the number of vectors of each that count.
        generations: with the bytes of each.
    """

    spaces: tuple[tuple[Space, int], ...]
    generations: tuple[tuple[Generation, int], ...]

    def __bool__(self) -> bool:
        return bool(self.spaces or self.generations)


def prunable(workspace: Workspace) -> Prunable:
    """What nothing needs.

    Vectors are needed while they are of the generation that answers or of the one that a rollback leads to, or are
    the only ones that some item is found by. A generation is needed when it answers, is rolled back to, is the newest,
    or stands between those and a space that is kept: its bridges lead there.
    """
    serving = workspace.serving.read()
    kept = {name for name in (serving.generation, serving.previous) if name is not None}
    if serving.generation is None:
        return Prunable((), ())
    spaces = _unneeded(workspace, serving.generation, kept)
    dropped = {space.id for space, _ in spaces}
    newest = workspace.lineage.newest
    ends = kept | {space.generation for space in workspace.gallery.store.spaces() if space.id not in dropped}
    ends |= set() if newest is None else {newest.name}
    if serving.shadow is not None:
        ends.add(serving.shadow.generation)
    on_the_way = {name for end in ends for name in _path(workspace, serving.generation, end)}
    generations = [each for each in workspace.lineage.generations() if each.name not in on_the_way]
    return Prunable(spaces, tuple((each, _bytes(each)) for each in generations))


def prune(workspace: Workspace, what: Prunable) -> None:
    """Drop of it what is not needed by now; vectors first, so that none is left without what explains it."""
    still = prunable(workspace)  # while the user thought about it another generation may have been made to answer
    for space in {space for space, _ in what.spaces} & {space for space, _ in still.spaces}:
        workspace.gallery.store.drop_space(space.id)
    named = {generation.name for generation, _ in what.generations}
    for generation in [generation for generation, _ in still.generations if generation.name in named]:
        gone = generation.folder.with_name(f".{generation.name}.0")  # out of sight at once, however long it takes
        generation.folder.rename(gone)
        shutil.rmtree(gone)
    workspace.gallery.store.maintain()


def _unneeded(workspace: Workspace, serving: str, kept: set[str]) -> tuple[tuple[Space, int], ...]:
    """Spaces without which every item that is found now still is, judged from the farthest space on."""
    store = workspace.gallery.store
    spaces = store.spaces()
    near = workspace.bridge_paths.reachable(serving, spaces)
    own = {space_of(each).id for each in workspace.lineage.generations() if each.name in kept}
    far_first = [space for space in spaces if space not in near] + list(reversed(near))
    left, going = list(spaces), []
    missing = {space.id: set(store.missing(space.id)) for space in spaces}
    for space in far_first:
        others = [missing[each.id] for each in left if each != space and each in near]
        if space.id in own or not others:
            continue
        if space in near and not set.intersection(*others) <= missing[space.id]:
            continue
        left.remove(space)
        going.append((space, store.coverage(space)[0]))
    return tuple(going)


def _path(workspace: Workspace, source: str, target: str) -> list[str]:
    try:
        return workspace.lineage.path(source, target)
    except CatalogueError:  # of a generation that is not there, or shares no ancestor
        return [target]


def _bytes(generation: Generation) -> int:
    return sum(file.stat().st_size for file in generation.folder.iterdir())
