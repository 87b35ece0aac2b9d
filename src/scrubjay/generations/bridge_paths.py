"""From the space of one generation to that of another: which spaces a query visits, and over which bridges."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from scrubjay.bridges import Bridge, compose
from scrubjay.errors import CatalogueError, SpaceError
from scrubjay.generations.lineage import Generation, Lineage
from scrubjay.stores import Space


class Routes:
    """Bridges along the lines of a lineage. They are read once: generations never change."""

    def __init__(self, lineage: Lineage) -> None:
        self.lineage = lineage
        self._bridges: dict[tuple[str, str], Bridge] = {}

    def bridge(self, source: str, target: str) -> Bridge:
        """The map from the space of one generation to that of another, composed along the line between them.

        Raises:
            SpaceError: no line leads there, or a generation on it was made without bridges to a space of another size.
            CheckpointError: the file of a bridge is damaged.
        """
        key = (source, target)
        if key not in self._bridges:
            steps = [self._step(*pair) for pair in pairwise(self._path(source, target))]
            self._bridges[key] = compose(*steps)
        return self._bridges[key]

    def order(self, generation: str, spaces: Sequence[Space]) -> list[Space]:
        """The spaces that can be reached from a generation, nearest first, of equals the younger one first.

        Foreign vectors, of a generation that is not the one of this name here, are not comparable with anything.

        Raises:
            CheckpointError: the file of a bridge is damaged.
        """
        known = {each.name: each.fingerprint for each in self.lineage.generations()}
        reachable = []
        for space in spaces:
            if known.get(space.generation, space.fingerprint) != space.fingerprint:
                continue
            try:
                self.bridge(generation, space.generation)
                steps = len(self._path(generation, space.generation))
            except SpaceError:
                continue
            reachable.append((steps, -space.number, space.id, space))
        return [space for *_, space in sorted(reachable, key=lambda each: each[:3])]

    def _path(self, source: str, target: str) -> list[str]:
        """The line between two generations, either of which may have been pruned: its bridges lie with its children."""
        there = any(each.name == source for each in self.lineage.generations())
        try:
            return self.lineage.path(source, target) if there else self.lineage.path(target, source)[::-1]
        except CatalogueError as error:
            raise SpaceError(f"vectors of {target} cannot be searched with queries of {source}: {error}") from None

    def _step(self, source: str, target: str) -> Bridge:
        known = {generation.name: generation for generation in self.lineage.generations()}
        if source in known and known[source].parent == target:
            younger, direction = source, "to_parent"
        elif target in known and known[target].parent == source:
            younger, direction = target, "from_parent"
        else:
            raise SpaceError(
                f"no bridge leads from {source} to {target}: the generation that holds it is gone; restore it from a "
                "copy, or embed the items again."
            )
        found = self.lineage.bridges(known[younger]).get(direction)
        if found is not None:
            return found
        ends = [known[name] for name in (source, target) if name in known]
        if len({_dim(end) for end in ends}) > 1:
            raise SpaceError(f"{younger} has no bridge {direction} and its space is of another size; train it again.")
        return compose()


def space_of(generation: Generation) -> Space:
    """The embedding space of a generation."""
    name = f"{generation.name}-{generation.fingerprint[:12]}"
    return Space(name, _dim(generation), generation.fingerprint, generation.name)


def _dim(generation: Generation) -> int:
    return int(generation.info["network"]["dim"])
