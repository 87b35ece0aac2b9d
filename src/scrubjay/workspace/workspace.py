"""The context of an open catalogue: everything in its folder, opened once and passed to whatever works on it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from torch import Tensor

from scrubjay.closed_form.match_model import MatchModel
from scrubjay.components.accumulation import Accumulation
from scrubjay.config import read_json
from scrubjay.errors import CatalogueError, ConfigError, SpaceError
from scrubjay.gallery.features import FeatureWriter
from scrubjay.gallery.gallery import Gallery
from scrubjay.gallery.image_folder import ImageFolder
from scrubjay.gate.probe_set import ProbeSet
from scrubjay.generations.bridge_paths import BridgePaths
from scrubjay.generations.generation import Generation
from scrubjay.generations.lineage import Lineage
from scrubjay.generations.serving import Serving, ServingFile
from scrubjay.methods import method
from scrubjay.models.embedding import Encoder
from scrubjay.stores import Space, open_store
from scrubjay.types import Embeddings, Sample
from scrubjay.workspace.calibrations import Calibrations
from scrubjay.workspace.migrations import migrate
from scrubjay.workspace.options import CatalogueOptions
from scrubjay.workspace.probe_features import ProbeFeatures

ENCODERS = 4
"""Number of networks that are kept in memory: those of the generation that answers, of the one before it, of a
candidate and of a shadow. A process that stays up would otherwise hold one for each class that was ever taught."""


class Workspace:
    """An open catalogue. What is read of generations is kept in memory, because they never change.

    Args:
        folder: folder of the catalogue; a catalogue of an older format is migrated.

    Attributes:
        folder: folder of the catalogue.
        options: options that it was made with.
        lineage: the generations.
        serving: the file that says which generation answers queries.
        gallery: the items and their vectors.
        bridge_paths: bridges between the spaces of the generations.
        probe_set: held-out images by which generations are judged.
        images: images of items that were sent to the catalogue.
        probe_features: trunk features of probe images, kept in memory.

    Raises:
        CatalogueError: the folder is not a catalogue.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "catalogue.json"
        if not os.path.isfile(path):
            raise CatalogueError(f"{folder}: no catalogue here; make one first: scrubjay init {folder}")
        try:
            values = read_json(path)
        except ConfigError as error:
            raise CatalogueError(f"{error} Restore {path}; the generations beside it are intact.") from None
        self.folder = folder
        self.gallery = Gallery(open_store(values.get("store") or f"lancedb://{(folder / 'gallery').absolute()}"))
        values = migrate(folder, values, self.gallery.store)
        values.pop("format")
        self.options = CatalogueOptions.parse(values, str(path))
        self.lineage = Lineage(folder / "generations")
        self.serving = ServingFile(folder)
        self.bridge_paths = BridgePaths(self.lineage)
        self.probe_set = ProbeSet(folder / "probe")
        self.images = ImageFolder(folder / "images")
        self.probe_features = ProbeFeatures()
        self._encoders: dict[str, Encoder] = {}
        self._match_models: dict[Path, tuple[int, MatchModel]] = {}

    def serving_generation(self, serving: Serving | None = None) -> Generation:
        """The generation that answers queries.

        Args:
            serving: content of the serving file, where it has been read already.

        Raises:
            CatalogueError: nothing was learned yet.
        """
        name = (serving or self.serving.read()).generation
        if name is None:
            raise CatalogueError(f"{self.folder}: nothing was learned yet: scrubjay learn {self.folder} PHOTOS")
        return self.lineage.get(name)

    def encoder(self, generation: Generation) -> Encoder:
        """The network of a generation with the image options of the catalogue, loaded and checked once.

        Raises:
            SpaceError: its vectors would not be those of the generation, since its weights or the options changed.
        """
        encoder = self._encoders.get(generation.fingerprint)
        if encoder is None:
            encoder = Encoder(self.lineage.network(generation).embedder, self.options.images)
            if encoder.fingerprint != generation.fingerprint:
                raise SpaceError(
                    f"{self.folder}: the vectors would not be those of {generation.name}: its weights, images.size or "
                    "images.resize were changed after it was made; restore them."
                )
        self._encoders.pop(generation.fingerprint, None)
        self._encoders[generation.fingerprint] = encoder  # at the end: it was used last
        for unused in list(self._encoders)[:-ENCODERS]:
            self._encoders.pop(unused, None)
        return encoder

    def embed(self, generation: Generation, samples: Sequence[Sample]) -> Embeddings:
        """Embed images with a generation; see `Encoder.embed` and `encoder`."""
        return self.encoder(generation).embed(samples)

    def remove_items(self, ids: Iterable[str]) -> int:
        """Remove items with their vectors and features, and the images that were sent; returns the number of items."""
        ids = list(ids)
        removed = self.gallery.delete(ids)
        self.images.remove(ids)
        return removed

    def feature_writer(self, generation: Generation) -> FeatureWriter | None:
        """What stores the trunk features of images that a generation embeds; None where they are not kept.

        They are kept where the method learns in closed form, so that the next generation has the same trunk.
        """
        encoding, kind = self.options.gallery_features, method(generation.info.method["name"])
        if encoding == "none" or not (issubclass(kind, Accumulation) and kind.keeps_statistics):
            return None
        return FeatureWriter(self.gallery.store, encoding)

    def learned_features(self, generation: Generation, era: str, hashes: Collection[str]) -> dict[str, Tensor]:
        """Kept features float16 (p,) of the centre crops of images that a generation has learned, by content hash.

        Args:
            generation: the generation.
            era: identity of its trunk.
            hashes: content hashes of the images that are asked for; the others are not returned.
        """
        found: dict[str, Tensor] = {}
        for name in generation.info.statistics:
            found |= self.lineage.statistics.centre_crops(name, era, hashes)
        return found

    def calibrations(self, generation: Generation) -> Calibrations:
        """The calibrations of a generation's queries.

        Raises:
            CheckpointError: their file is damaged.
        """
        return Calibrations.load(self.calibrations_path(generation))

    def calibrations_path(self, generation: Generation) -> Path:
        """Path of the file that holds the calibrations of a generation."""
        return self.folder / "calibration" / f"{generation.name}.json"

    def match_model(self, generation: Generation) -> MatchModel | None:
        """What decides whether queries of a generation match; None where its threshold is one of cosines.

        Raises:
            CheckpointError: its file is damaged.
        """
        path = self.match_model_path(generation)
        try:
            changed = path.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        stored = self._match_models.get(path)
        if stored is None or stored[0] != changed:
            stored = self._match_models[path] = changed, MatchModel.load(path)
        return stored[1]

    def match_model_path(self, generation: Generation) -> Path:
        """Path of the file that holds the match model of a generation that was learned in closed form."""
        return self.folder / "calibration" / f"{generation.name}.safetensors"

    def searched_spaces(self, generation: Generation) -> list[Space]:
        """The spaces of the gallery that queries of a generation can search, nearest first."""
        return self.bridge_paths.reachable(generation.name, self.gallery.store.spaces())

    def generation_of(self, space: Space) -> Generation | None:
        """The generation that a space is named after; None where it is not on disk."""
        return self.lineage.by_name().get(space.generation)
