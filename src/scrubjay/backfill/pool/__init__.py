"""Images embedded by one generation in this process, in several, or on a Ray cluster: one function does a chunk.

A chunk is a list of samples that are embedded together, so that its vectors are the same to the bit wherever it is
done. Results come in the order of the chunks here and from processes, and as they are finished from Ray.

All of it works at a lower priority than what calls it: the thread that embeds in this process (on Linux, where threads
have priorities of their own), the processes, and the actors.
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
"""The priority of what embeds, as of `nice`: below all that is interactive, above what is idle."""


def load_encoder(generation: Path, images: ImageOptions) -> Encoder:
    """The encoder of the generation in a folder; images that cannot be decoded are skipped.

    Images are decoded in the calling process: the number of processes is decided by the caller.

    Raises:
        CheckpointError: its files are damaged.
    """
    from scrubjay.generations.lineage import Lineage
    from scrubjay.models.embedding import Encoder

    lineage = Lineage(generation.parent)
    lenient = images.model_copy(update={"on_error": "skip", "workers": 0})
    return Encoder(lineage.network(lineage.get(generation.name)).embedder, lenient)


def embed_chunk(encoder: Encoder, samples: Chunk) -> Embeddings:
    """Embed the images of a chunk; images that cannot be decoded are missing and listed, even if it is all of them."""
    import numpy as np

    try:
        return encoder.embed(samples)
    except ImageError:  # none can be decoded
        failures = tuple((str(sample.path), "cannot be decoded; save it again as JPEG or PNG.") for sample in samples)
        nothing = np.empty(0, np.int64)
        vectors = np.empty((0, encoder.embedder.projection.out_features), np.float32)
        return Embeddings(vectors, nothing, encoder.fingerprint, nothing, failures)


def lower_priority() -> None:
    """Lower the priority of this thread, or of the whole process where threads have none of their own, for good."""
    os.nice(max(0, NICE - os.nice(0)))


def embedded(
    generation: Path, images: ImageOptions, chunks: Iterable[Chunk], jobs: int = 1, ray: str | None = None
) -> Generator[tuple[int, Embeddings], None, None]:
    """Embed chunks of images; `chunks` is read as the work goes on, a little ahead of it.

    Args:
        generation: its folder.
        images: how images are prepared.
        chunks: of samples.
        jobs: processes; 1: this one.
        ray: "local", or the address of a Ray cluster whose machines see the same paths; `jobs` are its actors then.

    Returns:
        The number of each chunk, from 0, and what was embedded. Close it when you stop before its end.

    Raises:
        ConfigError: jobs is below 1, Ray is asked for and not installed, or no cluster answers.
        CheckpointError: the generation is damaged.
        StorageError: a process died again and again on the same chunk, or the cluster failed.
    """
    if jobs < 1:
        raise ConfigError(f"jobs = {jobs}: needed is 1 process or more.")
    encoder = load_encoder(generation, images)  # what is wrong with it is said here, in one line
    if ray is not None:
        from scrubjay.backfill.pool import cluster

        yield from cluster.embedded(generation, images, chunks, jobs, ray)
    elif jobs > 1:
        from scrubjay.backfill.pool import processes

        yield from processes.embedded(generation, images, chunks, jobs)
    else:
        yield from _here(encoder, chunks)


def _here(encoder: Encoder, chunks: Iterable[Chunk]) -> Generator[tuple[int, Embeddings], None, None]:
    begin = lower_priority if sys.platform == "linux" else None
    with ThreadPoolExecutor(1, "embed", begin) as thread:
        for number, chunk in enumerate(chunks):
            yield number, thread.submit(embed_chunk, encoder, chunk).result()
