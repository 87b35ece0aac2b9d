"""Runs a worker in several processes of this machine; the chunks of a process that dies are computed again."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, Any

from scrubjay.errors import StorageError

if TYPE_CHECKING:
    from scrubjay.workers import Chunk, Worker

ATTEMPTS = 3
"""Number of attempts at a chunk before it is blamed for the death of the processes that work on it."""


class _Process:
    """State of a process that lasts between its tasks."""

    worker: Worker | None = None


@dataclass
class _Task:
    number: int
    chunk: Chunk
    attempts: int = 0
    future: Future[bytes] | None = None


def run(
    make: Callable[..., Worker], arguments: tuple[Any, ...], chunks: Iterable[Chunk], processes: int
) -> Generator[tuple[int, bytes], None, None]:
    """Numbers and results of the chunks, in their order; see `scrubjay.workers.Workers.run`."""
    tasks = (_Task(number, chunk) for number, chunk in enumerate(chunks))
    pending: deque[_Task] = deque()
    suspects = 0  # first chunks, one of which may have killed a process; run one at a time, to see which
    pool = _pool(make, arguments, processes)
    try:
        while True:
            try:
                _submit(pool, pending, tasks, 1 if suspects else 2 * processes)
                if not pending:
                    return
                result = _result(pending[0])
            except BrokenProcessPool:
                _raise_if_exhausted(pending[0])
                suspects = sum(task.attempts > 0 for task in pending)
                for task in pending:
                    task.future = None
                pool.shutdown(wait=True, cancel_futures=True)
                pool = _pool(make, arguments, processes)
            else:
                suspects = max(0, suspects - 1)
                yield pending.popleft().number, result
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


def _result(task: _Task) -> bytes:
    if task.future is None:
        raise RuntimeError("the chunk was not submitted")
    return task.future.result()


def _raise_if_exhausted(task: _Task) -> None:
    if task.attempts >= ATTEMPTS:
        raise StorageError(
            f"{task.chunk[0].path}: the process that embeds it and {len(task.chunk) - 1} others died {ATTEMPTS} "
            "times: use fewer processes, or find the image that crashes them."
        ) from None


def _pool(make: Callable[..., Worker], arguments: tuple[Any, ...], processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, get_context("spawn"), _initialise, (make, arguments))


def _initialise(make: Callable[..., Worker], arguments: tuple[Any, ...]) -> None:
    """Prepare a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, and ends the pool
    threading.Thread(target=_die_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)
    _Process.worker = make(*arguments)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # workers hold the pool's pipes open for each other, so none would notice that the parent is gone


def _work(chunk: Chunk) -> bytes:
    if _Process.worker is None:
        raise RuntimeError("the worker process was not initialised")
    return _Process.worker(chunk)
