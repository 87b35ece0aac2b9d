"""Options of a run, and the two things that are built from them: the stream of sessions and the method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from scrubjay.config import Config
from scrubjay.data.images import ImageOptions
from scrubjay.data.sources import source
from scrubjay.data.stream import Stream, StreamOptions, split
from scrubjay.errors import ConfigError
from scrubjay.methods import Method, method
from scrubjay.models.embedder import Network, NetworkOptions
from scrubjay.training import TrainingOptions, seeded

DEFAULT_METHOD = "slda"
"""The method of a run that sets none: the best one on the bench without old images."""


class ExperimentOptions(Config):
    """All options of a run: the keys that a recipe may set."""

    name: str = "experiment"
    """Title of the run in tables and reports."""
    seed: int = Field(0, ge=0)
    """Seeds weights, batches and augmentation; also the order of classes, where `stream.order` is "shuffle" and
    `stream.seed` is not set."""
    source: dict[str, Any]
    """`name` of a source of images, and the options of that source."""
    stream: StreamOptions
    """How the classes are divided into sessions."""
    images: ImageOptions = ImageOptions()
    """How images are decoded, resized and augmented."""
    network: NetworkOptions = NetworkOptions()
    """Backbone, embedding dimension, and which part of the backbone stays frozen."""
    method: dict[str, Any] = Field(default_factory=dict)
    """`name` of a method, and the options of that method; by default `slda`."""
    training: TrainingOptions = TrainingOptions()
    """Optimiser, learning rates, epochs and batches of every session."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Set the defaults that depend on other options."""
        if not isinstance(values, Mapping):
            return values
        filled = dict(values)
        filled.setdefault("method", {"name": DEFAULT_METHOD})
        network, (name, _) = filled.get("network", {}), _named(filled["method"], "method")
        if isinstance(network, Mapping):
            kind = method(name)
            filled["network"] = {"features": kind.default_features, "transform": kind.default_transform, **network}
        stream = filled.get("stream")
        if isinstance(stream, Mapping) and stream.get("order") == "shuffle":
            filled["stream"] = {"seed": filled.get("seed", 0), **stream}
        return filled

    @field_validator("source", mode="after")
    @classmethod
    def _resolve_source(cls, value: dict[str, Any]) -> dict[str, Any]:
        name, options = _named(value, "source")
        return {"name": name, **source(name).parse(options, "source").model_dump(mode="json")}

    @field_validator("method", mode="after")
    @classmethod
    def _resolve_method(cls, value: dict[str, Any]) -> dict[str, Any]:
        name, options = _named(value, "method")
        return {"name": name, **method(name).Options.parse(options, "method").model_dump(mode="json")}


def _named(value: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """Split a table into its `name` and the remaining options."""
    if not isinstance(value.get("name"), str):
        raise ConfigError(f"{where}: key 'name' is missing; `scrubjay {where}s` lists the known names.")
    return value["name"], {key: item for key, item in value.items() if key != "name"}


def load_stream(options: ExperimentOptions) -> tuple[Stream, Path]:
    """Load the source and divide its classes into sessions.

    Returns:
        The stream, and the folder that its image paths are relative to.

    Raises:
        DataError: the source is missing or cannot be divided as the options say.
    """
    name, fields = _named(options.source, "source")
    dataset = source(name).parse(fields, "source").load()
    return split(dataset, options.stream), dataset.root


def make_method(options: ExperimentOptions) -> Method:
    """Build the method of a run around a fresh network; the same seed gives the same weights."""
    name, fields = _named(options.method, "method")
    with seeded(options.seed):
        network = Network(options.network)
    network.embedder.make_batch_invariant()  # the same bits whether or not activations are cached
    kind = method(name)
    return kind(network, kind.Options.parse(fields, "method"))
