"""Embeds images with one generation, in this process, in several processes, or on a Ray cluster.

A chunk is a list of samples that are embedded together. One function embeds a chunk wherever it runs, so its vectors
are the same to the bit on one machine with the same number of threads. Results come in the order of the chunks from this process and from several
processes, and in the order of completion from Ray.

Everything that embeds runs at a lower priority than its caller: the thread that embeds in this process (on Linux, where
every thread has its own priority), the processes, and the actors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from scrubjay.data.images import ImageOptions
from scrubjay.errors import ConfigError, ImageError
from scrubjay.types import Embeddings, Sample

if TYPE_CHECKING:
    from scrubjay.models.embedding import Encoder

Chunk = Sequence[Sample]
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


def embed_chunk(encoder: Encoder, samples: Chunk) -> Embeddings:
    """Embed the images of a chunk. Images that cannot be decoded are listed as failures, even if all of them fail."""
    import numpy as np

    try:
        return encoder.embed(samples)
    except ImageError:  # raised when no image can be decoded
        failures = tuple((str(sample.path), "cannot be decoded; save it again as JPEG or PNG.") for sample in samples)
        nothing = np.empty(0, np.int64)
        vectors = np.empty((0, encoder.embedder.projection.out_features), np.float32)
        return Embeddings(vectors, nothing, encoder.fingerprint, nothing, failures)


def lower_priority() -> None:
    """Lower the priority of this thread for good; outside Linux, that of the whole process."""
    os.nice(max(0, NICE - os.nice(0)))


def embed_chunks(
    generation: Path, images: ImageOptions, chunks: Iterable[Chunk], jobs: int = 1, ray: str | None = None
) -> Generator[tuple[int, Embeddings], None, None]:
    """Embed chunks of images. `chunks` is read while the work proceeds, a few chunks ahead of it.

    Args:
        generation: folder of the generation.
        images: how images are prepared.
        chunks: lists of samples.
        jobs: number of processes; 1 is this process.
        ray: "local", or the address of a Ray cluster whose machines see the same paths; `jobs` is then the number of
            its actors.

    Returns:
        The number of each chunk, from 0, with its embeddings. Close the generator to stop before its end.

    Raises:
        ConfigError: jobs is below 1, Ray is asked for and not installed, or no cluster answers.
        CheckpointError: the generation is damaged.
        StorageError: processes died repeatedly on the same chunk, or the cluster failed.
    """
    if jobs < 1:
        raise ConfigError(f"jobs = {jobs}: give 1 process or more.")
    encoder = load_encoder(generation, images)  # loaded in any case, so that a damaged generation is one clear error
    if ray is not None:
        from scrubjay.backfill.pool import cluster

        yield from cluster.embed_chunks(generation, images, chunks, jobs, ray)
    elif jobs > 1:
        from scrubjay.backfill.pool import processes

        yield from processes.embed_chunks(generation, images, chunks, jobs)
    else:
        yield from _in_thread(encoder, chunks)


def _in_thread(encoder: Encoder, chunks: Iterable[Chunk]) -> Generator[tuple[int, Embeddings], None, None]:
    """Embed in a thread of this process, because on Linux the priority of a thread can be lowered by itself."""
    initializer = lower_priority if sys.platform == "linux" else None
    with ThreadPoolExecutor(1, "embed", initializer) as thread:
        for number, chunk in enumerate(chunks):
            yield number, thread.submit(embed_chunk, encoder, chunk).result()
