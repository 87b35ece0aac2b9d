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
    """Bridges along the lines of a lineage. Each is composed once: generations never change.

    Args:
        lineage: the generations.
    """

    def __init__(self, lineage: Lineage) -> None:
        self.lineage = lineage
        self._bridges: dict[tuple[str, str], Bridge] = {}
        self._lengths: dict[tuple[str, str], int] = {}

    def bridge(self, source: str, target: str) -> Bridge:
        """The map from the space of one generation to that of another, composed along the line between them.

        Raises:
            SpaceError: no line leads there, or a generation on it was made without bridges to a space of another size.
            CheckpointError: the file of a bridge is damaged.
        """
        key = (source, target)
        if key not in self._bridges:
            known = self.lineage.by_name()
            path = self._path(source, target, known)
            self._bridges[key] = compose(*(self._step(*pair, known) for pair in pairwise(path)))
            self._lengths[key] = len(path)
        return self._bridges[key]

    def reachable(self, generation: str, spaces: Sequence[Space]) -> list[Space]:
        """The spaces that queries of a generation can search, nearest first; of equally near ones the youngest first.

        A space whose fingerprint is not that of the generation of its name holds vectors of an unknown network, which
        are not comparable with anything; it is left out.

        Raises:
            CheckpointError: the file of a bridge is damaged.
        """
        known = self.lineage.by_name()
        ranked = []
        for space in spaces:
            owner = known.get(space.generation)
            if owner is not None and owner.fingerprint != space.fingerprint:
                continue
            try:
                self.bridge(generation, space.generation)
            except SpaceError:
                continue
            ranked.append((self._lengths[generation, space.generation], -space.number, space.id, space))
        return [space for *_, space in sorted(ranked, key=lambda entry: entry[:3])]

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
