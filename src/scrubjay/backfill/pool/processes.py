"""Chunks of images embedded by processes of this machine; a process that dies costs its chunk a second attempt."""

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

from scrubjay.backfill.pool import Chunk, embed_chunk, load_encoder, lower_priority
from scrubjay.data.images import ImageOptions
from scrubjay.errors import StorageError
from scrubjay.types import Embeddings, Sample

if TYPE_CHECKING:
    from scrubjay.models.embedding import Encoder

ATTEMPTS = 3
"""How often a chunk is given to a process before its death is taken for the chunk's fault."""


class _Worker:
    """The state of a process of the pool between its tasks."""

    encoder: Encoder | None = None


@dataclass
class _Task:
    number: int
    chunk: Chunk
    attempts: int = 0
    future: Future[Embeddings] | None = None


def embedded(
    generation: Path, images: ImageOptions, chunks: Iterable[Chunk], jobs: int
) -> Generator[tuple[int, Embeddings], None, None]:
    """See `scrubjay.backfill.pool.embedded`; results come in the order of the chunks."""
    coming = (_Task(number, chunk) for number, chunk in enumerate(chunks))
    going: deque[_Task] = deque()
    suspects = 0  # chunks in front that a death may be the fault of; they go one at a time, so that it shows which
    pool = _pool(generation, images, jobs)
    try:
        while True:
            try:
                _submit(pool, going, coming, 1 if suspects else 2 * jobs)
                if not going:
                    return
                found = _result(going[0])
            except BrokenProcessPool:
                _refuse_fatal(going[0])
                suspects = sum(task.attempts > 0 for task in going)
                for task in going:
                    task.future = None
                pool.shutdown(wait=True, cancel_futures=True)
                pool = _pool(generation, images, jobs)
            else:
                suspects = max(0, suspects - 1)
                yield going.popleft().number, found
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, going: deque[_Task], coming: Iterator[_Task], width: int) -> None:
    """Give out the first `width` chunks, those among them that are not given out yet."""
    while len(going) < width and (task := next(coming, None)) is not None:
        going.append(task)
    for task in list(going)[:width]:
        if task.future is None:
            task.future = pool.submit(_work, list(task.chunk))
            task.attempts += 1


def _result(task: _Task) -> Embeddings:
    if task.future is None:
        raise RuntimeError("a chunk that was not given out")
    return task.future.result()


def _refuse_fatal(task: _Task) -> None:
    if task.attempts >= ATTEMPTS:
        raise StorageError(
            f"{task.chunk[0].path}: the process that embeds it and {len(task.chunk) - 1} others died {ATTEMPTS} "
            "times: use fewer --jobs, or look for the image that does it."
        ) from None


def _pool(generation: Path, images: ImageOptions, jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (generation, images))


def _begin(generation: Path, images: ImageOptions) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the pool
    threading.Thread(target=_die_with_parent, daemon=True).start()
    lower_priority()
    import torch

    torch.set_num_threads(1)
    _Worker.encoder = load_encoder(generation, images)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # the pool's pipes have more ends than the parent's: without this it would wait for ever


def _work(samples: list[Sample]) -> Embeddings:
    if _Worker.encoder is None:
        raise RuntimeError("a task without its process's beginning")
    return embed_chunk(_Worker.encoder, samples)
