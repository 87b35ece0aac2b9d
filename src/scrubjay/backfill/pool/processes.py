"""Embeds chunks of images in several processes of this machine; the chunks of a process that dies are retried."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING

from scrubjay.backfill.pool.chunk import Chunk, Embedded, embed_chunk, load_encoder, lower_priority
from scrubjay.data.images import ImageOptions
from scrubjay.errors import StorageError
from scrubjay.types import Sample

if TYPE_CHECKING:
    from scrubjay.models.embedding import Encoder

ATTEMPTS = 3
"""Number of attempts at a chunk before it is blamed for the death of the processes that embed it."""


class _Worker:
    """State of a worker process that lasts between its tasks."""

    encoder: Encoder | None = None
    features = False


@dataclass
class _Task:
    number: int
    chunk: Chunk
    attempts: int = 0
    future: Future[Embedded] | None = None


def embed_chunks(
    generation: Path, images: ImageOptions, chunks: Iterable[Chunk], jobs: int, features: bool
) -> Generator[tuple[int, Embedded], None, None]:
    """See `scrubjay.backfill.pool.embed_chunks`; results come in the order of the chunks."""
    tasks = (_Task(number, chunk) for number, chunk in enumerate(chunks))
    pending: deque[_Task] = deque()
    suspects = 0  # first chunks, one of which may have killed a process; run one at a time, to see which
    pool = _pool(generation, images, jobs, features)
    try:
        while True:
            try:
                _submit(pool, pending, tasks, 1 if suspects else 2 * jobs)
                if not pending:
                    return
                embeddings = _result(pending[0])
            except BrokenProcessPool:
                _raise_if_exhausted(pending[0])
                suspects = sum(task.attempts > 0 for task in pending)
                for task in pending:
                    task.future = None
                pool.shutdown(wait=True, cancel_futures=True)
                pool = _pool(generation, images, jobs, features)
            else:
                suspects = max(0, suspects - 1)
                yield pending.popleft().number, embeddings
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, pending: deque[_Task], tasks: Iterator[_Task], width: int) -> None:
    """Submit those of the first `width` chunks that are not submitted yet."""
    while len(pending) < width and (task := next(tasks, None)) is not None:
        pending.append(task)
    for task in list(pending)[:width]:
        if task.future is None:
            task.future = pool.submit(_work, list(task.chunk))
            task.attempts += 1


def _result(task: _Task) -> Embedded:
    if task.future is None:
        raise RuntimeError("the chunk was not submitted")
    return task.future.result()


def _raise_if_exhausted(task: _Task) -> None:
    if task.attempts >= ATTEMPTS:
        raise StorageError(
            f"{task.chunk[0].path}: the process that embeds it and {len(task.chunk) - 1} others died {ATTEMPTS} "
            "times: use fewer --jobs, or find the image that crashes them."
        ) from None


def _pool(generation: Path, images: ImageOptions, jobs: int, features: bool) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, get_context("spawn"), _initialise, (generation, images, features))


def _initialise(generation: Path, images: ImageOptions, features: bool) -> None:
    """Prepare a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, and ends the pool
    threading.Thread(target=_die_with_parent, daemon=True).start()
    lower_priority()
    import torch

    torch.set_num_threads(1)
    _Worker.encoder = load_encoder(generation, images)
    _Worker.features = features


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # workers hold the pool's pipes open for each other, so none would notice that the parent is gone


def _work(samples: list[Sample]) -> Embedded:
    if _Worker.encoder is None:
        raise RuntimeError("the worker process was not initialised")
    return embed_chunk(_Worker.encoder, samples, _Worker.features)
