"""Audits the vectors that a backfill has written, as they are stored now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from scrubjay.gallery.items import mismatched
from scrubjay.stores import NORM_TOLERANCE, Item, Space, Store

SAMPLE = 32
"""Number of vectors that are compared with vectors of the same items, embedded a second time."""
_BLOCK = 4096


def audit(
    store: Store,
    space: Space,
    ids: Sequence[str],
    embed_again: Callable[[Sequence[Item]], tuple[list[str], NDArray[np.float32]]],
) -> Iterator[str]:
    """Describe each problem of the vectors of these items; yields nothing where there is none.

    Args:
        store: the vectors are read from it.
        space: embedding space of the vectors.
        ids: ids of the items; items without a vector are skipped.
        embed_again: embeds items, and returns the ids of those that could be embedded with their vectors.
    """
    stored_ids, invalid_ids = [], []
    for block in _blocks(ids):
        names, vectors = store.vectors(space.id, block)
        norms = np.linalg.norm(vectors, axis=1)
        invalid = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))  # negated, so that NaN is invalid as well
        invalid_ids += [names[row] for row in invalid]
        stored_ids += names
    if invalid_ids:
        yield f"{len(invalid_ids)} vectors are not finite or not of unit norm, the first of item {invalid_ids[0]}"
    chosen = np.random.default_rng().permutation(len(stored_ids))[:SAMPLE]
    items = list(store.items([stored_ids[row] for row in chosen]))
    if items:
        compared, differing = mismatched(store, space, *embed_again(items))
        if differing:
            yield (
                f"{len(differing)} of {len(compared)} vectors in a sample differ from what the generation computes for "
                "their images"
            )


def _blocks(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + _BLOCK] for start in range(0, len(ids), _BLOCK))
