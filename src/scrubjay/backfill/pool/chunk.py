"""One chunk of images, embedded: the part that is the same in this process, in a worker process and on a cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from scrubjay.data.images import ImageOptions
from scrubjay.errors import ImageError
from scrubjay.types import Embeddings, TrunkFeatures
from scrubjay.workers import Chunk

if TYPE_CHECKING:
    from scrubjay.models.embedding import Encoder

Embedded = Embeddings | TrunkFeatures
NICE = 10
"""Niceness of threads and processes that embed: below interactive work, above idle work."""


def load_encoder(generation: Path, images: ImageOptions) -> Encoder:
    """The encoder of the generation in a folder. It skips images that cannot be decoded.

    Images are decoded in the calling process, because the caller decides on the number of processes.

    Raises:
        CheckpointError: the files of the generation are damaged.
    """
    from scrubjay.generations.lineage import Lineage
    from scrubjay.models.embedding import Encoder

    lineage = Lineage(generation.parent)
    lenient = images.model_copy(update={"on_error": "skip", "workers": 0})
    return Encoder(lineage.network(lineage.get(generation.name)).embedder, lenient)


def embed_chunk(encoder: Encoder, samples: Chunk, features: bool = False) -> Embedded:
    """Embed the images of a chunk, or compute their trunk features.

    Images that cannot be decoded are listed as failures, even if all of them fail.
    """
    try:
        return encoder.features(samples) if features else encoder.embed(samples)
    except ImageError:  # raised when no image can be decoded
        failures = tuple((str(sample.path), "cannot be decoded; save it again as JPEG or PNG.") for sample in samples)
        nothing = np.empty(0, np.int64)
        if features:
            rows = np.empty((0, encoder.embedder.projection.in_features), np.float32)
            return TrunkFeatures(rows, nothing, encoder.era, nothing, failures)
        return Embeddings(np.empty((0, encoder.dim), np.float32), nothing, encoder.fingerprint, nothing, failures)


class ChunkEmbedder:
    """Embeds chunks in a process of its own, of low priority; see `scrubjay.workers`.

    Args:
        generation: folder of the generation.
        images: how images are prepared, as JSON values.
        features: compute trunk features in place of embeddings.

    Raises:
        CheckpointError: the files of the generation are damaged.
    """

    def __init__(self, generation: str, images: dict[str, Any], features: bool) -> None:
        lower_priority()
        self.encoder = load_encoder(Path(generation), ImageOptions(**images))
        self.features = features

    def __call__(self, samples: Chunk) -> bytes:
        """Embed the images of a chunk; see `embed_chunk` and `to_bytes`."""
        return to_bytes(embed_chunk(self.encoder, samples, self.features))


def to_bytes(embedded: Embedded) -> bytes:
    """Embeddings or trunk features as bytes that can be sent between machines."""
    if isinstance(embedded, TrunkFeatures):
        kind, vectors, space = "features", embedded.features, embedded.era
    else:
        kind, vectors, space = "embeddings", embedded.vectors, embedded.fingerprint
    about = json.dumps([kind, space, embedded.failures]).encode()
    arrays: dict[str, NDArray[Any]] = {"vectors": vectors, "labels": embedded.labels, "indices": embedded.indices}
    return save({**arrays, "about": np.frombuffer(about, np.uint8)})


def from_bytes(content: bytes) -> Embedded:
    """The inverse of `to_bytes`."""
    arrays = load(content)
    name, space, failures = json.loads(arrays["about"].tobytes())
    kind: type[Embedded] = TrunkFeatures if name == "features" else Embeddings
    failed = tuple((path, reason) for path, reason in failures)
    return kind(arrays["vectors"], arrays["labels"], space, arrays["indices"], failed)


def lower_priority() -> None:
    """Lower the priority of this thread for good; outside Linux, that of the whole process."""
    os.nice(max(0, NICE - os.nice(0)))
