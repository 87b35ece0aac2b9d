"""Items of the gallery whose images can still be read, and the check of their vectors against these images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrubjay.data.photos import content_hash
from scrubjay.errors import DataError, ImageError
from scrubjay.stores import Item, Space, Store
from scrubjay.types import Sample

ITEMS = 20_000
"""Number of items of a larger gallery that are considered. Ids are hashes, so the first ones are a random sample."""
EMBEDDED = 512
"""Number of items that are embedded by a candidate to measure the cost and the gain of a backfill."""
SAME_IMAGE = 0.999
"""Least cosine between a stored vector and the same image embedded again: rounding stays far above it, another image or
network far below."""

MISSING = "the file is missing or cannot be read"
CHANGED = "the file has changed since it was added"


def sample_of(item: Item) -> Sample:
    """The image of an item, to be embedded again; its label has no meaning.

    Raises:
        DataError: the box of the item is invalid.
    """
    box = item.metadata.get("box")
    if box is None:
        return Sample(Path(item.uri), 0)
    try:
        left, top, right, bottom = (int(part) for part in str(box).split(","))
    except ValueError:
        raise DataError(
            f"item {item.id!r}: its box is {box!r}; needed are four whole numbers: left,top,right,bottom."
        ) from None
    return Sample(Path(item.uri), 0, box=(left, top, right, bottom))


def image_problem(item: Item) -> str | None:
    """Why the image that was added as this item cannot be embedded again; None where it can."""
    try:
        return None if content_hash(sample_of(item)) == item.content_hash else CHANGED
    except ImageError:
        return MISSING
    except DataError as error:
        return str(error)


def intact(items: Iterable[Item]) -> Iterator[Item]:
    """The items whose image files are present and unchanged."""
    return (item for item in items if image_problem(item) is None)


def readable_items(store: Store, number: int) -> list[Item]:
    """Up to so many items of a store whose image files are present and unchanged."""
    return list(islice(intact(islice(store.items(), ITEMS)), number))


def mismatched(
    store: Store, space: Space, ids: Sequence[str], vectors: NDArray[np.float32]
) -> tuple[list[str], list[str]]:
    """Compare stored vectors with vectors of the same images, embedded again.

    Args:
        store: holds the vectors.
        space: embedding space of the vectors.
        ids: ids of N items; an item may have been deleted in the meantime.
        vectors: float32 (N, d), unit rows, of their images embedded again.

    Returns:
        The ids of the items that could be compared, and of those among them whose stored vector differs.
    """
    stored_ids, stored = store.vectors(space.id, ids)
    rows = {name: row for row, name in enumerate(ids)}
    cosines = np.vecdot(stored, vectors[[rows[name] for name in stored_ids]])
    same = cosines >= SAME_IMAGE  # false for NaN
    return stored_ids, [name for name, is_same in zip(stored_ids, same, strict=True) if not is_same]
