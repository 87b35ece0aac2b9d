"""The gallery: items and their vectors, each vector in the embedding space of the generation that computed it."""

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
class SpaceQuery:
    """Queries carried into one of the embedding spaces that a search covers.

    Attributes:
        space: the embedding space of the stored vectors.
        vectors: float32 (Q, d), unit rows, the queries in that space.
        calibration: calibration of the cosines of such queries; None where only one space is searched.
    """

    space: Space
    vectors: NDArray[np.float32]
    calibration: Calibration | None


class Gallery:
    """Adds, searches and deletes items in a store. Each item is found by its vector in the most preferred space."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._counted: tuple[tuple[Any, ...], int] = (), 0

    def add(self, items: Sequence[Item], vectors: ArrayLike, space: Space) -> None:
        """Add items with their vectors; items whose ids exist already are replaced.

        The items are committed before their vectors. A crash in between leaves items that `store.missing` reports;
        adding them again completes them.

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
        return self.search_mixed([SpaceQuery(space, queries, None)], k, labels, where)

    def search_mixed(
        self,
        queries: Sequence[SpaceQuery],
        k: int = 10,
        labels: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[list[Hit]]:
        """The k best items of each query, best first; all items when there are fewer than k.

        An item is compared in the first space that holds a vector of it, and in no other. Hits of several spaces are
        merged by their calibrated scores, ties by the order of the spaces and then by id. Items without any vector are
        not found; see `unembedded`.

        Args:
            queries: the same Q queries in each space, in the order in which the spaces are preferred.
            k: at least 1.
            labels: consider items with one of these labels only.
            where: consider only items whose metadata have all these values.

        Raises:
            ConfigError: k is less than 1.
            CatalogueError: the gallery is empty, or none of its items has a vector yet.
            SpaceError: a space is not one of the gallery's, or several are searched and one is not calibrated.
            DataError: a query is not finite or not of unit norm, or the spaces have different numbers of queries.
        """
        if k < 1:
            raise ConfigError(f"k = {k}; ask for 1 hit or more.")
        numbers = sorted({len(query.vectors) for query in queries})
        if len(numbers) > 1:
            raise DataError(f"{numbers} queries in the spaces of one search: carry the same queries into each space.")
        needed = self._needed(queries)
        if len(needed) > 1 and any(query.calibration is None for query in needed):
            raise SpaceError("cosines of several spaces cannot be merged: give a calibration for each space.")
        merged: list[list[tuple[float, Hit]]] = [[] for _ in range(len(needed[0].vectors))]
        for position, query in enumerate(needed):
            preferred = [other.space.id for other in needed[:position]]
            results = self.store.search(query.space, query.vectors, k, labels, where=where, without=preferred)
            for row, result in enumerate(results):
                merged[row] += _scored(query, result)
        return [[hit for _, hit in sorted(hits, key=lambda scored: -scored[0])[:k]] for hits in merged]

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
        """Number of items that no search finds, because they have no vector in any of the spaces.

        Args:
            reached: the spaces that a search covers; by default all spaces of the store.
        """
        known = self.store.spaces()
        spaces = known if reached is None else [space for space in reached if space in known]
        if not spaces:
            return self.store.count()
        lacking = {space.id: self.store.coverage(space)[1] for space in spaces}
        if not all(lacking.values()):
            return 0
        # Listing ids costs more than a search, so the result is kept until one of the counts changes.
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

    def _needed(self, queries: Sequence[SpaceQuery]) -> list[SpaceQuery]:
        """The spaces up to the first that holds every item, without those that hold none."""
        needed = []
        for query in queries:
            held, missing = self.store.coverage(query.space)  # refuses another space of this id
            if held:
                needed.append(query)
            if held and not missing:
                break
        if needed:
            return needed
        if not self.store.count():
            raise CatalogueError("the gallery is empty: add images first: scrubjay add …")
        known = ", ".join(f"{space.id!r}" for space in self.store.spaces()) or "none"
        asked = ", ".join(query.space.id for query in queries) or "none"
        raise SpaceError(
            f"no item has a vector in the spaces asked for ({asked}); the gallery has: {known}. Add the images again."
        )


def _scored(query: SpaceQuery, result: Sequence[tuple[Item, float]]) -> list[tuple[float, Hit]]:
    """Hits in one space with the score by which hits of several spaces are merged."""
    cosines = np.array([cosine for _, cosine in result])
    scores = cosines if query.calibration is None else query.calibration(cosines)
    matches = [None] * len(result) if query.calibration is None else probability(scores).tolist()
    return [
        (score, Hit(item.id, item.uri, item.label, cosine, query.space.generation, item.metadata, match))
        for (item, cosine), score, match in zip(result, scores.tolist(), matches, strict=True)
    ]
