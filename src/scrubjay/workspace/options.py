"""All options of a catalogue."""

from __future__ import annotations

from pydantic import Field

from scrubjay.config import Config
from scrubjay.data.images import ImageOptions
from scrubjay.gate.decision import GateOptions
from scrubjay.gate.probe_set import ProbeOptions
from scrubjay.models.embedder import NetworkOptions
from scrubjay.training import TrainingOptions


class CatalogueOptions(Config):
    """What a catalogue is made with; the same for all its generations."""

    seed: int = Field(0, ge=0)
    """Of weights, batches and augmentation."""
    images: ImageOptions = ImageOptions()
    """How images are prepared."""
    network: NetworkOptions = NetworkOptions()
    """What is trained."""
    training: TrainingOptions = TrainingOptions()
    """How each session is learned."""
    store: str | None = None
    """Address of the store of the gallery, as postgresql://host/database; none: a folder in the catalogue."""
    probe: ProbeOptions = ProbeOptions()
    """The held-out images by which new generations are judged."""
    gate: GateOptions = GateOptions()
    """What a new generation has to keep before it answers queries."""
    false_match_rate: float = Field(0.05, gt=0, lt=1)
    """Share of images of unknown classes for which a search may still claim a match."""
