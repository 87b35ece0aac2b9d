"""Puts the item whose image has the same bytes as the query first: that match is certain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from scrubjay.gallery.gallery import SpaceQuery
from scrubjay.stores import Item, Store
from scrubjay.types import Hit


def identical_first(
    store: Store,
    contents: Sequence[str | None],
    spaces: Sequence[SpaceQuery],
    found: Sequence[list[Hit]],
    unfiltered: bool,
) -> list[list[Hit]]:
    """The hits of each query, led by the item of the same image, with a match of 1.

    Args:
        store: holds the items.
        contents: content hash of each query image, the id of the item of the same image; None for a query without one.
        spaces: the queries in each space that was searched.
        found: hits of each query.
        unfiltered: whether all items were searched: then that item is returned even if it was not among the hits.

    Returns:
        The hits of each query, at most one more than were given.
    """
    missed = [
        content
        for content, hits in zip(contents, found, strict=True)
        if unfiltered and content is not None and all(hit.id != content for hit in hits)
    ]
    items = {item.id: item for item in store.items(missed)} if missed else {}
    return [
        _led(hits, content, _hit(store, items, content, spaces, row))
        for row, (content, hits) in enumerate(zip(contents, found, strict=True))
    ]


def _led(hits: list[Hit], content: str | None, missed: Hit | None) -> list[Hit]:
    identical = missed or next((hit for hit in hits if hit.id == content), None)
    if identical is None:
        return hits
    return [replace(identical, match=1.0), *(hit for hit in hits if hit.id != content)]


def _hit(
    store: Store, items: Mapping[str, Item], content: str | None, spaces: Sequence[SpaceQuery], row: int
) -> Hit | None:
    """The item of a query's own image as a hit, by its vector in the first space that holds one."""
    item = items.get(content or "")
    if item is None:
        return None
    for query in spaces:
        ids, vectors = store.vectors(query.space.id, [item.id])
        if ids:
            score = float(np.clip(query.vectors[row] @ vectors[0], -1, 1))
            return Hit(item.id, item.uri, item.label, score, query.space.generation, item.metadata)
    return None
