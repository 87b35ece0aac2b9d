"""The options of a catalogue."""

from __future__ import annotations

from pydantic import Field

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
    network: NetworkOptions = NetworkOptions()
    """The network: its backbone, pooling and embedding dimension."""
    training: TrainingOptions = TrainingOptions()
    """How each session is trained."""
    store: str | None = None
    """Address of the gallery's store, such as postgresql://host/database; without it, a folder in the catalogue."""
    probe: ProbeOptions = ProbeOptions()
    """Which held-out images are kept to judge new generations."""
    gate: GateOptions = GateOptions()
    """Limits that a new generation has to keep before it answers queries."""
    false_match_rate: float = Field(0.05, gt=0, lt=1)
    """Largest share of images of unknown classes for which a search may claim a match."""
