"""The gallery: items that are found by their vectors, each vector in the space of the generation that made it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrubjay.errors import CatalogueError, ConfigError, DataError, SpaceError
from scrubjay.gallery.calibration import Calibration, probability
from scrubjay.stores import Item, Space, Store, checked
from scrubjay.types import Hit


@dataclass(frozen=True, slots=True)
class Leg:
    """Queries in one of the spaces that a search visits.

    Attributes:
        space: of the stored vectors.
        queries: float32 (Q, d), unit rows, carried into that space.
        calibration: of cosines of such queries; None where one leg is all there is.
    """

    space: Space
    queries: NDArray[np.float32]
    calibration: Calibration | None


class Gallery:
    """Add, search and delete over a store. Every item is found by the best vector it has."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._counted: tuple[tuple[Any, ...], int] = (), 0

    def add(self, items: Sequence[Item], vectors: ArrayLike, space: Space) -> None:
        """Add items with their vectors; items of ids that are there already are replaced.

        The items are committed first. A crash before their vectors are leaves items that `store.missing` reports and
        that adding them again completes.

        Args:
            items: N of them.
            vectors: float (N, d), unit rows, in the same order.
            space: of the vectors.

        Raises:
            SpaceError: the store has another space of this id, or the dimension differs.
            DataError: the numbers of items and vectors differ, or a vector is not finite or not of unit norm.
        """
        array = checked(vectors, space)
        if len(items) != len(array):
            raise DataError(f"{len(items)} items with {len(array)} vectors; give one vector for each item.")
        self.store.create_space(space)
        self.store.put_items(items)
        self.store.put_embeddings(space, [item.id for item in items], array)

    def search(
        self,
        vectors: ArrayLike,
        space: Space,
        k: int = 10,
        labels: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[list[Hit]]:
        """The k nearest items of each query among those with a vector in one space; see `search_mixed`."""
        queries = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
        return self.search_mixed([Leg(space, queries, None)], k, labels, where)

    def search_mixed(
        self,
        legs: Sequence[Leg],
        k: int = 10,
        labels: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[list[Hit]]:
        """The k best items of each query, best first; all items when there are fewer than k.

        An item is compared in the first leg whose space has its vector, and in no other. Hits of several legs are
        merged by their calibrated scores, ties by leg and then by id. Items without any vector are not found; see
        `unembedded`.

        Args:
            legs: the same queries in each space, in the order in which the spaces are preferred.
            k: at least 1.
            labels: consider items with one of these labels only.
            where: consider items only whose metadata have all these values.

        Raises:
            ConfigError: k is less than 1.
            CatalogueError: the gallery is empty, or none of its items has a vector yet.
            SpaceError: a space is not one of the gallery's, or several are searched and one is not calibrated.
            DataError: a query is not finite or not of unit norm, or the legs have different numbers of queries.
        """
        if k < 1:
            raise ConfigError(f"k = {k}; ask for 1 hit or more.")
        if len(numbers := sorted({len(leg.queries) for leg in legs})) > 1:
            raise DataError(f"legs with {numbers} queries: each leg carries the same queries into its space.")
        needed = self._needed(legs)
        if len(needed) > 1 and any(leg.calibration is None for leg in needed):
            raise SpaceError("cosines of several spaces cannot be merged: give each leg a calibration.")
        merged: list[list[tuple[float, Hit]]] = [[] for _ in range(len(needed[0].queries))]
        for position, leg in enumerate(needed):
            before = [other.space.id for other in needed[:position]]
            found = self.store.search(leg.space, leg.queries, k, labels, where=where, without=before)
            for query, more in enumerate(found):
                merged[query] += _scored(leg, more)
        return [[hit for _, hit in sorted(hits, key=lambda each: -each[0])[:k]] for hits in merged]

    def delete(self, ids: Iterable[str]) -> int:
        """Remove items from every space; returns how many there were to remove."""
        return self.store.delete(ids)

    def count(self) -> int:
        """Number of items."""
        return self.store.count()

    def counts(self) -> dict[str, int]:
        """Number of items that have a vector, for each generation, oldest first."""
        counts: dict[str, int] = {}
        for space in self.store.spaces():
            held, _ = self.store.coverage(space)
            counts[space.generation] = max(held, counts.get(space.generation, 0))
        return counts

    def unembedded(self, reached: Sequence[Space] | None = None) -> int:
        """Number of items that no search finds: without a vector in any of the spaces.

        Args:
            reached: the spaces that a search visits; by default all there are.
        """
        known = self.store.spaces()
        spaces = known if reached is None else [space for space in reached if space in known]
        if not spaces:
            return self.store.count()
        lacking = {space.id: self.store.coverage(space)[1] for space in spaces}
        if not all(lacking.values()):
            return 0
        # To list ids costs more than a search does; as long as every number is what it was, so is this one.
        numbers = (self.store.count(), *lacking.items())
        if self._counted[0] != numbers:
            self._counted = numbers, self._in_none(sorted(lacking, key=lacking.__getitem__))
        return self._counted[1]

    def _in_none(self, space_ids: Sequence[str]) -> int:
        """Number of items without a vector in any of the spaces, the fullest of which comes first."""
        left = set(self.store.missing(space_ids[0]))
        for space_id in space_ids[1:]:
            if not left:
                break
            left.intersection_update(self.store.missing(space_id))
        return len(left)

    def _needed(self, legs: Sequence[Leg]) -> list[Leg]:
        """The legs up to the first that holds every item, without those that hold none."""
        known, needed = self.store.spaces(), []
        for leg in legs:
            held, missing = self.store.coverage(leg.space)  # refuses another space of this id
            if held:
                needed.append(leg)
            if held and not missing:
                break
        if not needed:
            if not self.store.count():
                raise CatalogueError("the gallery is empty: add images first: scrubjay add …")
            spaces = ", ".join(f"{space.id!r}" for space in known) or "none"
            raise SpaceError(
                f"no item has a vector in the spaces asked for ({', '.join(leg.space.id for leg in legs) or 'none'}); "
                f"the gallery has: {spaces}. Add the images again."
            )
        return needed


def _scored(leg: Leg, found: Sequence[tuple[Item, float]]) -> list[tuple[float, Hit]]:
    """Hits of one leg with the score that they are merged by."""
    cosines = np.array([cosine for _, cosine in found])
    scores = cosines if leg.calibration is None else leg.calibration(cosines)
    matches = [None] * len(found) if leg.calibration is None else probability(scores).tolist()
    return [
        (score, Hit(item.id, item.uri, item.label, cosine, leg.space.generation, item.metadata, match))
        for (item, cosine), score, match in zip(found, scores.tolist(), matches, strict=True)
    ]
