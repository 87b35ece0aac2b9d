"""Which embedding spaces a query of one generation can search, and over which bridges it gets there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from scrubjay.bridges import Bridge, compose
from scrubjay.errors import CatalogueError, SpaceError
from scrubjay.generations.generation import Generation
from scrubjay.generations.lineage import Lineage
from scrubjay.stores import Space


class BridgePaths:
    """Bridges along the lines of a lineage. Each is composed once, until another process adds or removes a generation.

    Args:
        lineage: the generations.
    """

    def __init__(self, lineage: Lineage) -> None:
        self.lineage = lineage
        self._composed: dict[tuple[str, str], tuple[Bridge, int]] = {}
        self._known: dict[str, tuple[str, str, str | None]] = {}

    def bridge(self, source: str, target: str) -> Bridge:
        """The map from the space of one generation to that of another, composed along the line between them.

        Raises:
            SpaceError: no line leads there, or a generation on it was made without bridges to a space of another size.
            CheckpointError: the file of a bridge is damaged.
        """
        return self._found(source, target, self._current())[0]

    def reachable(self, generation: str, spaces: Sequence[Space]) -> list[Space]:
        """The spaces that queries of a generation can search, nearest first; of equally near ones the youngest first.

        A space whose fingerprint is not that of the generation of its name holds vectors of an unknown network, which
        are not comparable with anything; it is left out.

        Raises:
            CheckpointError: the file of a bridge is damaged.
        """
        known = self._current()
        ranked = []
        for space in spaces:
            owner = known.get(space.generation)
            if owner is not None and owner.fingerprint != space.fingerprint:
                continue
            try:
                _, length = self._found(generation, space.generation, known)
            except SpaceError:
                continue
            ranked.append((length, -space.number, space.id, space))
        return [space for *_, space in sorted(ranked, key=lambda entry: entry[:3])]

    def _found(self, source: str, target: str, known: Mapping[str, Generation]) -> tuple[Bridge, int]:
        """The bridge between two generations, and the number of generations on the line."""
        composed = self._composed.get((source, target))
        if composed is None:
            path = self._path(source, target, known)
            composed = compose(*(self._step(*pair, known) for pair in pairwise(path))), len(path)
            self._composed[source, target] = composed
        return composed

    def _current(self) -> dict[str, Generation]:
        """The generations by name; where they have changed, bridges are composed again."""
        known = self.lineage.by_name()
        state = {name: (each.fingerprint, each.info.created, each.parent) for name, each in known.items()}
        if state != self._known:
            self._known, self._composed = state, {}
        return known

    def _path(self, source: str, target: str, known: Mapping[str, Generation]) -> list[str]:
        """The line between two generations; either end may have been pruned, as its children hold the bridges."""
        try:
            if source in known:
                return self.lineage.path(source, target)
            return self.lineage.path(target, source)[::-1]
        except CatalogueError as error:
            raise SpaceError(f"vectors of {target} cannot be searched with queries of {source}: {error}") from None

    def _step(self, source: str, target: str, known: Mapping[str, Generation]) -> Bridge:
        if source in known and known[source].parent == target:
            younger, direction = source, "to_parent"
        elif target in known and known[target].parent == source:
            younger, direction = target, "from_parent"
        else:
            raise SpaceError(
                f"no bridge leads from {source} to {target}: the generation that holds it is missing; restore it from "
                "a copy, or embed the items again."
            )
        bridge = self.lineage.bridges(known[younger]).get(direction)
        if bridge is not None:
            return bridge
        dims = {known[name].dim for name in (source, target) if name in known}
        if len(dims) > 1:
            raise SpaceError(f"{younger} has no bridge {direction} and its space is of another size; train it again.")
        return compose()


def space_of(generation: Generation) -> Space:
    """The embedding space of a generation."""
    name = f"{generation.name}-{generation.fingerprint[:12]}"
    return Space(name, generation.dim, generation.fingerprint, generation.name)
