"""Pairs of vectors on which bridges are judged: items as the gallery stores them, and as a new network embeds them."""

from __future__ import annotations

import numpy as np

from scrubjay.bridges import PairedEmbeddings
from scrubjay.gallery.features import embedded_sample
from scrubjay.gallery.items import EMBEDDED
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.generation import Generation
from scrubjay.models.embedding import Encoder
from scrubjay.workspace.workspace import Workspace


def gallery_pairs(workspace: Workspace, parent: Generation, encoder: Encoder) -> PairedEmbeddings | None:
    """Labelled items of the gallery, embedded by a generation and by a younger network: by stored features or images.

    Args:
        workspace: the open catalogue.
        parent: the generation whose stored vectors are taken.
        encoder: the younger network.

    Returns:
        The pairs, stored vectors first; None where there are none.
    """
    store, space = workspace.gallery.store, space_of(parent)
    if space not in store.spaces():
        return None
    items, vectors = embedded_sample(store, encoder, EMBEDDED)
    stored_ids, stored = store.vectors(space.id, [item.id for item in items])
    rows = {name: row for row, name in enumerate(stored_ids)}
    kept = [row for row, item in enumerate(items) if item.id in rows and item.label is not None]
    if not kept:
        return None
    items = [items[row] for row in kept]
    codes = {label: code for code, label in enumerate(dict.fromkeys(item.label for item in items))}
    return PairedEmbeddings(
        stored[[rows[item.id] for item in items]],
        vectors[kept],
        np.array([codes[item.label] for item in items], dtype=np.int64),
    )
