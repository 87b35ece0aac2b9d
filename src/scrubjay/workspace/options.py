"""The options of a catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from scrubjay.config import Config
from scrubjay.data.images import ImageOptions
from scrubjay.gate.decision import GateOptions
from scrubjay.gate.probe_set import ProbeOptions
from scrubjay.models.embedder import NetworkOptions
from scrubjay.training import TrainingOptions


class CatalogueOptions(Config):
    """Options that a catalogue is created with; all its generations use them."""

    seed: int = Field(0, ge=0)
    """Seed of weights, batches and augmentation."""
    images: ImageOptions = ImageOptions()
    """How images are prepared."""
    network: NetworkOptions = NetworkOptions(features="stages")
    """The network: its backbone, features, pooling and embedding dimension."""
    training: TrainingOptions = TrainingOptions()
    """How each session is trained."""
    store: str | None = None
    """Address of the gallery's store, such as postgresql://host/database; without it, a folder in the catalogue."""
    probe: ProbeOptions = ProbeOptions()
    """Which held-out images are kept to judge new generations."""
    gate: GateOptions = GateOptions()
    """Limits that a new generation has to keep before it answers queries."""
    gallery_features: Literal["float16", "int8", "none"] = "float16"
    """How the trunk features of the gallery's items are stored where the method learns in closed form, so that a new
    generation embeds the gallery without reading an image: float16 takes 8.3 kB an item with the default network, int8
    half of it and changes embeddings by about 1e-4 in cosine; with none, a backfill reads the images."""
    false_match_rate: float = Field(0.05, gt=0, lt=1)
    """Share of images of classes never learned for which a search may claim a match, on average over such classes, if
    these are like learned classes that are left out."""
    keep_training_features: bool = True
    """Store the trunk features of training images that were learned in closed form, so that `scrubjay forget` can
    remove images exactly without being given them: 2·p bytes for each crop, 41 kB an image with the default trunk
    (p = 4,128) and views (4). Features can tell what an image shows."""

    @field_validator("network", mode="before")
    @classmethod
    def _features_of_stages(cls, value: object) -> object:
        """Options that name no trunk features take those of all stages, unless they ask for another pooling."""
        if isinstance(value, Mapping) and value.get("pooling", "avg") == "avg":
            return {"features": "stages", **value}
        return value
