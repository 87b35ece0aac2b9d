"""Chunks of pictures embedded by processes of this machine; a process that dies costs its chunk a second attempt."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from scrubjay.data.images import ImageOptions
from scrubjay.errors import StorageError
from scrubjay.pool import Chunk, embed_chunk, load_embedder
from scrubjay.types import Embeddings, Sample

if TYPE_CHECKING:
    from scrubjay.models.embedder import Embedder

ATTEMPTS = 3
"""How often a chunk is given to a process before its death is taken for the chunk's fault."""

_embedder: Embedder | None = None
_images: ImageOptions | None = None


def embedded(
    generation: Path, images: ImageOptions, chunks: Iterable[Chunk], jobs: int
) -> Iterator[tuple[int, Embeddings]]:
    """See `scrubjay.pool.embedded`; results come in the order of the chunks."""
    waiting: deque[tuple[int, Chunk, int]] = deque()
    coming = enumerate(chunks)
    pool = _pool(generation, images, jobs)
    going: deque[tuple[int, Chunk, int, Future[Embeddings]]] = deque()
    try:
        while True:
            while len(going) < 2 * jobs:
                entry = waiting.popleft() if waiting else next(((n, each, 1) for n, each in coming), None)
                if entry is None:
                    break
                going.append((*entry, pool.submit(_work, list(entry[1]))))
            if not going:
                return
            number, chunk, attempt, future = going[0]
            try:
                found = future.result()
            except BrokenProcessPool:
                if attempt == ATTEMPTS:
                    raise StorageError(
                        f"{chunk[0].path}: the process that embeds it and {len(chunk) - 1} others died "
                        f"{ATTEMPTS} times: use fewer --jobs, or look for the picture that does it."
                    ) from None
                waiting.extend((n, each, tried + (n == number)) for n, each, tried, _ in going)
                going.clear()
                pool.shutdown(wait=False, cancel_futures=True)
                pool = _pool(generation, images, jobs)
                continue
            going.popleft()
            yield number, found
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(generation: Path, images: ImageOptions, jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (generation, images))


def _begin(generation: Path, images: ImageOptions) -> None:
    import torch

    global _embedder, _images  # what a process of the pool has between its tasks
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the pool
    torch.set_num_threads(1)
    _embedder, _images = load_embedder(generation), images


def _work(samples: list[Sample]) -> Embeddings:
    if _embedder is None or _images is None:
        raise RuntimeError("a task without its process's beginning")
    return embed_chunk(_embedder, samples, _images)
