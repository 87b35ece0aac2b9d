"""Images of the gallery that can still be had, for judging, comparing and timing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from scrubjay.bridges import Judged
from scrubjay.data.photos import content_hash
from scrubjay.errors import DataError
from scrubjay.gallery.ingest import sample_of
from scrubjay.gate.probe_set import ProbeSet
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.lineage import Generation
from scrubjay.models.embedder import Embedder
from scrubjay.models.embedding import embed
from scrubjay.search.searcher import Answering
from scrubjay.stores import Item
from scrubjay.types import Sample

ITEMS = 20_000
"""Of a larger gallery so many items are looked at. Ids are hashes, so the first of them are a random sample."""
SHOWN = 64
"""Images on which an export is compared."""
EMBEDDED = 512
"""Items that are embedded by a candidate, to see what a backfill costs and would bring."""


def intact(items: Iterable[Item]) -> Iterator[Item]:
    """Those whose images are still what they were."""
    for item in items:
        try:
            if content_hash(sample_of(item)) == item.content_hash:
                yield item
        except DataError:
            continue


def embeddable(answering: Answering, number: int) -> list[Item]:
    """Some items whose images are still what they were."""
    return list(islice(intact(islice(answering.gallery.store.items(), ITEMS)), number))


def pairs(answering: Answering, parent: Generation, embedder: Embedder) -> Judged | None:
    """Items of the gallery as they are stored by a generation and as a younger network embeds them.

    Those whose images can still be had; None where there are none.
    """
    store, space = answering.gallery.store, space_of(parent)
    if space not in store.spaces():
        return None
    items = embeddable(answering, EMBEDDED)
    held, stored = store.vectors(space.id, [item.id for item in items])
    items = [item for item in items if item.id in set(held) and item.label is not None]
    if not items:
        return None
    embedded = embed(embedder, [sample_of(item) for item in items], answering.options.images)
    kept = [items[index] for index in embedded.indices]
    rows = {name: row for row, name in enumerate(held)}
    codes = {label: code for code, label in enumerate(dict.fromkeys(item.label for item in kept))}
    return Judged(
        stored[[rows[item.id] for item in kept]],
        embedded.vectors,
        np.array([codes[item.label] for item in kept], dtype=np.int64),
    )


def images(answering: Answering, generation: Generation) -> list[Sample]:
    """Some images of the gallery that can be had, and those of the probe set."""
    probes = ProbeSet(answering.folder / "probe").probes(answering.lineage.line(generation.name))
    kept = [probe.sample for probe in probes if probe.sample is not None]
    return [*kept, *(sample_of(item) for item in embeddable(answering, SHOWN))][:SHOWN]
