"""Whether vectors that a backfill claims are what they should be, as they lie in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from scrubjay.gallery.items import mismatched
from scrubjay.stores import NORM_TOLERANCE, Item, Space, Store
from scrubjay.types import Embeddings

SAMPLE = 32
"""Vectors that are compared with the same images embedded once more."""
_BLOCK = 4096


def audit(
    store: Store, space: Space, ids: Sequence[str], again: Callable[[Sequence[Item]], tuple[list[str], Embeddings]]
) -> Iterator[str]:
    """What is wrong with the vectors of these items; nothing where all is well.

    Args:
        store: they are read from it again.
        space: of the vectors.
        ids: of items; those without a vector are passed over.
        again: embeds the images of items, and tells the ids of those that it could.
    """
    held, bad = [], []
    for block in _blocks(ids):
        names, vectors = store.vectors(space.id, block)
        norms = np.linalg.norm(vectors, axis=1)
        wrong = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))  # negated, so that NaN is wrong as well
        bad += [names[row] for row in wrong]
        held += names
    if bad:
        yield f"{len(bad)} vectors are not finite or not of unit norm, the first of item {bad[0]}"
    chosen = np.random.default_rng().permutation(len(held))[:SAMPLE]
    items = list(store.items([held[row] for row in chosen]))
    if items:
        ids, embedded = again(items)
        compared, differing = mismatched(store, space, ids, embedded.vectors)
        if differing:
            yield (
                f"{len(differing)} of {len(compared)} vectors in a sample differ from what the generation computes for "
                "their images"
            )


def _blocks(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + _BLOCK] for start in range(0, len(ids), _BLOCK))
