"""Embeds images with one generation, in this process, in several processes, or on a Ray cluster.

A chunk is a list of samples that are embedded together. One function embeds a chunk wherever it runs, so its vectors
are the same to the bit on one machine with the same number of threads. Results come in the order of the chunks.

Everything that embeds runs at a lower priority than its caller: the thread that embeds in this process (on Linux, where
every thread has its own priority), the processes, and the actors.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scrubjay.backfill.pool.chunk import ChunkEmbedder, Embedded, embed_chunk, from_bytes, load_encoder, lower_priority
from scrubjay.data.images import ImageOptions
from scrubjay.workers import Chunk, Workers

if TYPE_CHECKING:
    from scrubjay.models.embedding import Encoder

__all__ = ["Embedded", "background", "embed_chunks", "load_encoder"]


def embed_chunks(
    generation: Path,
    images: ImageOptions,
    chunks: Iterable[Chunk],
    jobs: int = 1,
    ray: str | None = None,
    features: bool = False,
) -> Generator[tuple[int, Embedded], None, None]:
    """Embed chunks of images. `chunks` is read while the work proceeds, a few chunks ahead of it.

    Args:
        generation: folder of the generation.
        images: how images are prepared.
        chunks: lists of samples.
        jobs: number of processes; 1 is this process.
        ray: "local", or the address of a Ray cluster whose machines see the same paths; `jobs` is then the number of
            its actors.
        features: compute trunk features, which the caller projects and stores, instead of embeddings.

    Returns:
        The number of each chunk, from 0, with its embeddings or trunk features. Close the generator to stop before its
        end.

    Raises:
        ConfigError: jobs is below 1, Ray is asked for and not installed, or no cluster answers.
        CheckpointError: the generation is damaged.
        StorageError: processes died repeatedly on the same chunk, or the cluster failed.
    """
    workers = Workers(jobs, ray)
    encoder = load_encoder(generation, images)  # loaded in any case, so that a damaged generation is one clear error
    if workers.here:
        yield from _in_thread(encoder, chunks, features)
        return
    arguments = str(generation.absolute()), images.model_dump(mode="json"), features
    with closing(workers.run(ChunkEmbedder, arguments, chunks)) as results:
        for number, result in enumerate(results):
            yield number, from_bytes(result)


@contextmanager
def background() -> Iterator[ThreadPoolExecutor]:
    """A thread of low priority; on Linux the priority of a thread can be lowered by itself."""
    initializer = lower_priority if sys.platform == "linux" else None
    with ThreadPoolExecutor(1, "embed", initializer) as thread:
        yield thread


def _in_thread(
    encoder: Encoder, chunks: Iterable[Chunk], features: bool
) -> Generator[tuple[int, Embedded], None, None]:
    """Embed in a thread of this process."""
    with background() as thread:
        for number, chunk in enumerate(chunks):
            yield number, thread.submit(embed_chunk, encoder, chunk, features).result()
