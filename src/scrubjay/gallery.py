"""The gallery: items that are found by their vectors, each vector in the space of the generation that made it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from scrubjay.errors import CatalogueError, ConfigError, DataError, SpaceError
from scrubjay.stores import Item, Space, Store, checked
from scrubjay.types import Hit


class Gallery:
    """Add, search and delete over a store. A search is answered in full by one space, or refused."""

    def __init__(self, store: Store) -> None:
        self.store = store

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
        self, vectors: ArrayLike, space: Space, k: int = 10, labels: Sequence[str] | None = None
    ) -> list[list[Hit]]:
        """The k nearest items of each query, best first; all items when there are fewer than k.

        Args:
            vectors: float (Q, d) or (d,), unit rows.
            space: of the queries.
            k: at least 1.
            labels: consider items with one of these labels only.

        Raises:
            ConfigError: k is less than 1.
            CatalogueError: the gallery is empty.
            SpaceError: the space is not one of the gallery, or does not hold all of its items.
            DataError: a query is not finite or not of unit norm.
        """
        if k < 1:
            raise ConfigError(f"k = {k}; ask for 1 hit or more.")
        self._answerable(space)
        found = self.store.search(space, np.atleast_2d(np.asarray(vectors, dtype=np.float32)), k, labels)
        return [
            [Hit(item.id, item.uri, item.label, score, space.generation, item.metadata) for item, score in hits]
            for hits in found
        ]

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

    def complete_spaces(self) -> list[Space]:
        """Spaces that hold a vector of every item, oldest generation first."""
        return [space for space in self.store.spaces() if self.store.coverage(space)[1] == 0]

    def answering_space(self) -> Space | None:
        """The space of the newest generation that holds every item, or None."""
        complete = self.complete_spaces()
        return complete[-1] if complete else None

    def _answerable(self, space: Space) -> None:
        held, missing = self.store.coverage(space)
        if held + missing == 0:
            raise CatalogueError("the gallery is empty: add pictures first: scrubjay add …")
        complete = self.complete_spaces() if missing else [space]
        if space not in complete:  # by now another process may have added the vectors of its items
            raise SpaceError(self._incomplete(space, held, missing, complete))

    def _incomplete(self, space: Space, held: int, missing: int, complete: list[Space]) -> str:
        problem = f"{missing} of {held + missing} items have no vector of {space.generation} (space {space.id!r})"
        if complete:
            newest = complete[-1].generation
            return f"{problem}; embed them again with {space.generation}, or search with {newest}."
        partial = ", ".join(f"{generation}: {count}" for generation, count in self.counts().items()) or "none"
        return f"{problem}, and no generation has all ({partial}); embed them again with {space.generation}."
