"""Adds images to the gallery with vectors and trunk features; images that cannot be decoded are reported."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scrubjay.data.photos import content_hash
from scrubjay.errors import DataError, ImageError
from scrubjay.gallery.features import FeatureWriter, lacking_features, projected
from scrubjay.gallery.gallery import Gallery
from scrubjay.stores import Item, Space
from scrubjay.types import Sample

if TYPE_CHECKING:
    from scrubjay.models.embedding import Encoder

CHUNK = 256


@dataclass(frozen=True, slots=True)
class Added:
    """The result of adding images.

    Attributes:
        items: how many items of these images the gallery holds now.
        failures: path of each image that was left out, and the reason.
    """

    items: int
    failures: tuple[tuple[str, str], ...]


@dataclass
class Ingest:
    """Adds images that the gallery does not hold yet. The id of an item is the hash of its content.

    Attributes:
        gallery: the gallery; no other process writes to it at the same time.
        space: embedding space of the vectors.
        encoder: embeds images into that space.
        strict: an image that cannot be decoded raises instead of being left out.
        features: stores the trunk features of the images; None where they are not kept.
        learned: content hashes of images → trunk features float (p,) of the centre crops of those that are stored
            already, because they were learned from. Their images are not read again.
    """

    gallery: Gallery
    space: Space
    encoder: Encoder
    strict: bool
    features: FeatureWriter | None = None
    learned: Callable[[Collection[str]], Mapping[str, Tensor]] = lambda _: {}
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, samples: Sequence[tuple[Sample, str | None]]) -> Added:
        """Add images with the names of their classes, chunk by chunk.

        Args:
            samples: images and names; None leaves the label of an item with the same image as it is.

        Raises:
            ImageError: an image cannot be decoded, if strict.
        """
        store = self.gallery.store
        known, embedded = self._known_few(samples) if len(samples) <= CHUNK else self._known_all()
        items: set[str] = set()
        for start in range(0, len(samples), CHUNK):
            chunk = self._identified(samples[start : start + CHUNK], known)
            changed = {name: item for name, (item, _) in chunk.items() if known.get(name, item) != item}
            store.put_items(changed.values())
            known |= changed
            embedded |= self._embedded({name: entry for name, entry in chunk.items() if name not in embedded})
            items |= chunk.keys() & embedded
        return Added(len(items), tuple(self.failures.items()))

    def _known_all(self) -> tuple[dict[str, Item], set[str]]:
        """All items by id, and the ids of those that have a vector already, and features where these are kept."""
        store = self.gallery.store
        known = {item.id: item for item in store.items()}
        if self.space not in store.spaces():
            return known, set()
        embedded = set(known).difference(store.missing(self.space.id))
        if self.features is None:
            return known, embedded
        lacking = lacking_features(store, self.encoder.era)
        return known, set() if lacking is None else embedded - lacking

    def _known_few(self, samples: Sequence[tuple[Sample, str | None]]) -> tuple[dict[str, Item], set[str]]:
        """As `_known_all`, of the items of a few images: a large gallery is not read for one more image."""
        store, names = self.gallery.store, list[str]()
        for sample, _ in samples:
            with suppress(ImageError):  # reported where the images are identified
                names.append(content_hash(sample))
        known = {item.id: item for item in store.items(list(dict.fromkeys(names)))}
        if not known or self.space not in store.spaces():
            return known, set()
        embedded = set(store.vectors(self.space.id, list(known))[0])
        if self.features is None:
            return known, embedded
        if self.encoder.era not in store.features.codecs():
            return known, set()
        return known, embedded.intersection(store.features.read(self.encoder.era, list(known))[0])

    def _identified(
        self, samples: Sequence[tuple[Sample, str | None]], known: Mapping[str, Item]
    ) -> dict[str, tuple[Item, Sample]]:
        """The item of each image by id, as it is to be stored, with the image."""
        identified: dict[str, tuple[Item, Sample]] = {}
        for sample, label in samples:
            try:
                name = content_hash(sample)
                item = identified[name][0] if name in identified else known.get(name, _new_item(name, sample))
                identified[name] = replace(item, uri=str(sample.path), label=label or item.label), sample
            except DataError as error:  # the file cannot be read, or its name cannot be stored
                self._leave_out([sample], error)
        return identified

    def _embedded(self, entries: Mapping[str, tuple[Item, Sample]]) -> set[str]:
        """Add items with their features and vectors; returns the ids of those that could be decoded."""
        if not entries:
            return set()
        learned = self.learned(entries.keys())
        if learned:
            rows = torch.stack([row.float() for row in learned.values()]).numpy()
            self._store([entries[name][0] for name in learned], self.encoder.project(rows), rows)
        return learned.keys() | self._encoded({name: each for name, each in entries.items() if name not in learned})

    def _encoded(self, entries: Mapping[str, tuple[Item, Sample]]) -> set[str]:
        """As `_embedded`, from the images."""
        if not entries:
            return set()
        samples = [sample for _, sample in entries.values()]
        try:
            features = None if self.features is None else self.encoder.features(samples)
            embeddings = self.encoder.embed(samples) if features is None else projected(self.encoder, features)
        except ImageError as error:  # none of them can be decoded
            self._leave_out(samples, error)
            return set()
        self.failures |= dict(embeddings.failures)
        names = list(entries)
        items = [entries[names[index]][0] for index in embeddings.indices]
        self._store(items, embeddings.vectors, None if features is None else features.features)
        return {item.id for item in items}

    def _store(self, items: Sequence[Item], vectors: NDArray[np.float32], features: NDArray[np.float32] | None) -> None:
        """Write items with their features and vectors.

        The features are written first, so that an item with a vector needs no further attention after a crash.
        """
        if self.features is not None and features is not None:
            self.gallery.store.put_items(items)
            self.features.write(self.encoder, [item.id for item in items], features)
        self.gallery.add(items, vectors, self.space)

    def _leave_out(self, samples: Sequence[Sample], error: DataError) -> None:
        if self.strict:
            raise error
        for sample in samples:
            path = str(sample.path)
            reason = str(error).removeprefix(f"{path}: ")
            if len(samples) > 1:
                reason = "cannot be decoded; save it again as JPEG or PNG."
            self.failures[path] = reason


def _new_item(name: str, sample: Sample) -> Item:
    box = {} if sample.box is None else {"box": ",".join(map(str, sample.box))}
    return Item(name, str(sample.path), name, metadata=box)
