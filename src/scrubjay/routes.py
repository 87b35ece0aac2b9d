"""From the space of one generation to that of another: which spaces a query visits, and over which bridges."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from scrubjay.bridges import Bridge, compose
from scrubjay.errors import CatalogueError, SpaceError
from scrubjay.lineage import Generation, Lineage
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
            try:
                path = self.lineage.path(source, target)
            except CatalogueError as error:
                raise SpaceError(f"vectors of {target} cannot be searched with queries of {source}: {error}") from None
            steps = [self._step(*pair) for pair in pairwise(path)]
            self._bridges[key] = compose(*steps)
        return self._bridges[key]

    def order(self, generation: str, spaces: Sequence[Space]) -> list[Space]:
        """The spaces that can be reached from a generation, nearest first, of equals the younger one first."""
        reachable = []
        for space in spaces:
            try:
                steps = len(self.lineage.path(generation, space.generation))
            except CatalogueError:
                continue
            reachable.append((steps, -space.number, space.id, space))
        return [space for *_, space in sorted(reachable, key=lambda each: each[:3])]

    def _step(self, source: str, target: str) -> Bridge:
        known = {generation.name: generation for generation in self.lineage.generations()}
        up = source in known and known[source].parent == target
        younger, direction = (source, "to_parent") if up else (target, "from_parent")
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
