"""Trunk features of the gallery's items: stored when an image is embedded, projected when the metric has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scrubjay.gallery.items import ITEMS, SAME_IMAGE, intact, sample_of
from scrubjay.stores import Encoding, FeatureCodec, Item, Store
from scrubjay.types import Embeddings, TrunkFeatures

if TYPE_CHECKING:
    from scrubjay.models.embedding import Encoder

FAITHFUL = (1 + SAME_IMAGE) / 2
"""Least cosine between the embedding of an image and that of its stored features. It is half the tolerance by which a
vector counts as that of its image, since the next metric may weigh the errors of the codes more."""


@dataclass(frozen=True, slots=True)
class FeatureWriter:
    """Stores the trunk features of items that are embedded.

    Attributes:
        store: the store of the items.
        encoding: how features of a new era are encoded.
    """

    store: Store
    encoding: Encoding

    def write(self, encoder: Encoder, ids: Sequence[str], features: NDArray[np.float32]) -> int:
        """Store the features of existing items, except those whose codes would not give the same embedding.

        Such an item has values far beyond all others of its era, which int8 clips; a backfill reads its image. Features
        that are not finite are not stored either.

        Args:
            encoder: the encoder whose trunk took the features.
            ids: ids of N items.
            features: float32 (N, p).

        Returns:
            Number of items whose features were stored.
        """
        finite = np.flatnonzero(np.isfinite(features).all(axis=1))
        if not len(finite):
            return 0
        table, era = self.store.features, encoder.era
        if era not in table.codecs():
            table.create(era, FeatureCodec.fitted(self.encoding, features[finite]))
        codec = table.codec(era)
        exact = features[finite]
        decoded = codec.decode(codec.encode(exact)[0])
        faithful = np.vecdot(encoder.project(exact), encoder.project(decoded)) >= FAITHFUL
        kept = finite[faithful]
        table.put(era, [ids[row] for row in kept], features[kept])
        return len(kept)


def projected(encoder: Encoder, features: TrunkFeatures) -> Embeddings:
    """The embeddings of images whose trunk features an encoder has taken."""
    vectors = encoder.project(features.features)
    return Embeddings(vectors, features.labels, encoder.fingerprint, features.indices, features.failures)


def lacking_features(store: Store, era: str) -> set[str] | None:
    """Ids of items without current features of an era; None where the store has no features of it."""
    if era not in store.features.codecs():
        return None
    return set(store.features.missing(era))


def embedded_sample(store: Store, encoder: Encoder, number: int) -> tuple[list[Item], NDArray[np.float32]]:
    """Up to so many items as an encoder embeds them: by their stored features, the others by their readable images.

    Returns:
        N items, and unit vectors float32 (N, d).
    """
    sample = {item.id: item for item in islice(store.items(), ITEMS)}
    names: list[str] = []
    vectors = np.empty((0, encoder.dim), np.float32)
    if lacking_features(store, encoder.era) is not None:
        names, features = store.features.read(encoder.era, list(islice(sample, number)))
        vectors = encoder.project(features)
    held = set(names)
    others = list(islice(intact(item for name, item in sample.items() if name not in held), number - len(names)))
    if not others:
        return [sample[name] for name in names], vectors
    embedded = encoder.embed([sample_of(item) for item in others])
    kept = [others[index] for index in embedded.indices]
    return [*(sample[name] for name in names), *kept], np.concatenate([vectors, embedded.vectors])
