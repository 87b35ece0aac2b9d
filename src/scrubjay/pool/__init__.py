"""Pictures embedded by one generation in this process, in several, or on a Ray cluster: one function does a chunk.

A chunk is a list of samples that are embedded together, so that its vectors are the same to the bit wherever it is
done. Results come in the order of the chunks here and from processes, and as they are finished from Ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scrubjay.data.images import ImageOptions
from scrubjay.errors import ConfigError, ImageError
from scrubjay.types import Embeddings, Sample

if TYPE_CHECKING:
    from scrubjay.models.embedder import Embedder

Chunk = Sequence[Sample]


def load_embedder(generation: Path) -> Embedder:
    """The embedder of the generation in a folder.

    Raises:
        CheckpointError: its files are damaged.
    """
    from scrubjay.lineage import Lineage

    lineage = Lineage(generation.parent)
    return lineage.network(lineage.get(generation.name)).embedder


def embed_chunk(embedder: Embedder, samples: Chunk, images: ImageOptions) -> Embeddings:
    """Embed the pictures of a chunk; those that cannot be decoded are missing and listed, be it all of them."""
    import numpy as np

    from scrubjay.models.embedding import embed, space_fingerprint

    lenient = images.model_copy(update={"on_error": "skip"})
    try:
        return embed(embedder, samples, lenient)
    except ImageError:  # not one can be decoded
        failures = tuple((str(sample.path), "cannot be decoded; save it again as JPEG or PNG.") for sample in samples)
        nothing = np.empty(0, np.int64)
        vectors = np.empty((0, embedder.projection.out_features), np.float32)
        return Embeddings(vectors, nothing, space_fingerprint(embedder, images), nothing, failures)


def embedded(
    generation: Path, images: ImageOptions, chunks: Iterable[Chunk], jobs: int = 1, ray: str | None = None
) -> Iterator[tuple[int, Embeddings]]:
    """Embed chunks of pictures; `chunks` is read as the work goes on, a little ahead of it.

    Args:
        generation: its folder.
        images: how pictures are prepared.
        chunks: of samples.
        jobs: processes; 1: this one.
        ray: "local", or the address of a Ray cluster whose machines see the same paths; `jobs` are its actors then.

    Returns:
        The number of each chunk, from 0, and what was embedded.

    Raises:
        ConfigError: jobs is below 1, or Ray is asked for and not installed.
        CheckpointError: the generation is damaged.
        StorageError: a process died again and again on the same chunk.
    """
    if jobs < 1:
        raise ConfigError(f"jobs = {jobs}: needed is 1 process or more.")
    if ray is not None:
        from scrubjay.pool import cluster

        yield from cluster.embedded(generation, images, chunks, jobs, ray)
    elif jobs == 1:
        embedder = load_embedder(generation)
        for number, chunk in enumerate(chunks):
            yield number, embed_chunk(embedder, chunk, images)
    else:
        load_embedder(generation)  # what is wrong with it is said here, in one line
        from scrubjay.pool import processes

        yield from processes.embedded(generation, images, chunks, jobs)
