"""The images of a session, as methods pass over them after its last step."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from scrubjay.closed_form.accumulate import accumulate
from scrubjay.closed_form.crops import CHUNK, Crops, CropWorker, features_of_crops, images_per_batch, save_trunk
from scrubjay.closed_form.saved_crops import Identity, SavedCrops, saving
from scrubjay.closed_form.statistics import Accumulator, Statistics
from scrubjay.data.loading import ImageLoader, with_views
from scrubjay.models.embedder import Network
from scrubjay.models.embedding import trunk_era
from scrubjay.models.folding import folded
from scrubjay.progress import track
from scrubjay.types import Batch
from scrubjay.workers import HERE, Workers

BATCH = 64
"""Number of crops in a batch of images."""


@dataclass(frozen=True, slots=True)
class SessionImages:
    """A `Pass` over the images of a session.

    Attributes:
        network: the network being trained.
        loader: the images, for evaluation.
        workers: where features are computed.
        saved: where they are kept until the session is stored, so that an interrupted pass goes on; None: nowhere.
    """

    network: Network
    loader: ImageLoader
    workers: Workers = HERE
    saved: SavedCrops | None = None

    @property
    def era(self) -> str:
        """See `Pass`."""
        return trunk_era(self.network.embedder, self.loader.options)

    def __call__(self, views: int = 0) -> Iterator[Batch]:
        """See `Pass`."""
        device = self.network.embedder.mean.device
        return (batch.to(device) for batch in with_views(self.loader, views, BATCH))

    def features(self, views: int) -> Iterator[Crops]:
        """See `Pass`."""
        images = images_per_batch(self.network.embedder, self.loader, views)
        total = -(-len(self.loader) // images)
        yield from track(self._features(views, images), f"compute features of {len(self.loader)} images", total)

    def statistics(self, views: int) -> Statistics:
        """See `Pass`."""
        if not self.workers.here:
            with self._folder() as folder:
                samples, options = self.loader.samples, self.loader.options
                return accumulate(self.network, options, samples, views, folder, self.workers)
        collected = Accumulator(self.era, self.network.embedder.projection.in_features)
        for crops in self.features(views):
            collected.add(crops.features, crops.labels)
        return collected.statistics()

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """The folder of what is saved, which a cluster can share; a temporary one where nothing is."""
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary) if self.saved is None else self.saved.folder

    def _features(self, views: int, images: int) -> Iterator[Crops]:
        if self.saved is None:
            yield from self._computed(views, 0, images)
            return
        first = 0
        listed = hashlib.blake2b(repr(self.loader.samples).encode(errors="replace"), digest_size=16).hexdigest()
        identity: Identity = {"era": self.era, "views": views, "images": images, "samples": listed}
        while (stretch := self.saved.read(identity, first)) is not None:
            crops, first = stretch
            yield from crops.by_batch(images)
        if first < len(self.loader):
            with closing(self._computed(views, first, images)) as computed:
                yield from saving(computed, self.saved, identity, first, images)

    def _computed(self, views: int, first: int, images: int) -> Generator[Crops, None, None]:
        """Batches of features from an image on."""
        if self.workers.here:
            yield from features_of_crops(folded(self.network.embedder), self.loader, views, first)
            return
        size = -(-CHUNK // images) * images
        starts = range(first, len(self.loader), size)
        chunks = (self.loader.samples[start : start + size] for start in starts)
        with self._folder() as folder:
            trunk = folder.absolute() / "trunk.safetensors"
            save_trunk(trunk, self.network, self.loader.options)
            with closing(self.workers.run(CropWorker, (str(trunk), views), chunks)) as results:
                for start, result in zip(starts, results, strict=True):
                    yield from Crops.from_bytes(result, start).by_batch(images)
