"""One chunk of images, embedded: the part that is the same in this process, in a worker process and on a cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scrubjay.data.images import ImageOptions
from scrubjay.errors import ImageError
from scrubjay.types import Embeddings, Sample, TrunkFeatures

if TYPE_CHECKING:
    from scrubjay.models.embedding import Encoder

Chunk = Sequence[Sample]
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
    import numpy as np

    try:
        return encoder.features(samples) if features else encoder.embed(samples)
    except ImageError:  # raised when no image can be decoded
        failures = tuple((str(sample.path), "cannot be decoded; save it again as JPEG or PNG.") for sample in samples)
        nothing = np.empty(0, np.int64)
        if features:
            rows = np.empty((0, encoder.embedder.projection.in_features), np.float32)
            return TrunkFeatures(rows, nothing, encoder.era, nothing, failures)
        return Embeddings(np.empty((0, encoder.dim), np.float32), nothing, encoder.fingerprint, nothing, failures)


def lower_priority() -> None:
    """Lower the priority of this thread for good; outside Linux, that of the whole process."""
    os.nice(max(0, NICE - os.nice(0)))
