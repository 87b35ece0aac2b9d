"""One thread for the model and the store, and a queue that answers queries which wait together in one batch."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from scrubjay.service.problems import ProblemError, busy, late

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scrubjay.search.request import QueryRequest

T = TypeVar("T")
Work = Callable[[], None]


class Engine:
    """A thread that runs functions one after another: the model is used by one thread at a time.

    Functions in the background run only while no others wait.
    """

    def __init__(self) -> None:
        self._work: queue.PriorityQueue[tuple[int, int, Work | None]] = queue.PriorityQueue()
        self._number = itertools.count()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, function: Callable[..., T], *args: Any, background: bool = False) -> Future[T]:
        """Run a function in the thread; its result or error is that of the future."""
        future: Future[T] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*args))
                except BaseException as error:
                    future.set_exception(error)

        self._work.put((int(background), next(self._number), work))
        return future

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function in the thread and wait for it without blocking the event loop."""
        return await asyncio.wrap_future(self.submit(function, *args))

    def stop(self) -> None:
        """End the thread after all functions that were submitted."""
        self._work.put((2, next(self._number), None))
        self._thread.join()

    def _run(self) -> None:
        while (work := self._work.get()[2]) is not None:
            work()


@dataclass(eq=False)
class Question:
    """A request that waits for its answer.

    Attributes:
        request: the images and what to search for.
        answer: will hold the answers.
        begun: whether a batch with it has begun.
        queued: time at which it was queued, in seconds of `time.perf_counter`.
    """

    request: QueryRequest
    answer: asyncio.Future[Any]
    begun: bool = False
    queued: float = field(default_factory=time.perf_counter)


class BatchQueue:
    """Answers questions in batches: those that wait while a batch is computed are the next one.

    Args:
        engine: runs the batches.
        answer: answers a batch; returns a result or an error for each request.
        batch_images: largest number of images in a batch; a question is never divided.
        window: seconds to wait for questions that are on their way, see `coming`.
        queue_images: largest number of images that wait.
        waited: called with the seconds that a question waited.
    """

    def __init__(
        self,
        engine: Engine,
        answer: Callable[[Sequence[QueryRequest]], Sequence[Any]],
        batch_images: int,
        window: float,
        queue_images: int,
        waited: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._engine, self._answer, self._waited = engine, answer, waited
        self._batch_images, self._window, self._queue_images = batch_images, window, queue_images
        self._questions: deque[Question] = deque()
        self._coming = 0
        self._arrived = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._serve())

    @property
    def depth(self) -> int:
        """Number of images that wait."""
        return sum(len(question.request.images) for question in self._questions)

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Announces a question inside the block, whose images are being decoded: a batch may wait for it shortly.

        Raises:
            ProblemError: too many images wait already.
        """
        self._refuse_if_full(1)
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1

    async def ask(self, request: QueryRequest, seconds: float) -> Any:
        """The result of a request.

        Raises:
            ProblemError: too many images wait (429), or there was no answer in so many seconds (503, 504).
        """
        self._refuse_if_full(len(request.images))
        question = Question(request, asyncio.get_running_loop().create_future())
        self._questions.append(question)
        self._arrived.set()
        try:
            async with asyncio.timeout(seconds):
                return await question.answer
        except TimeoutError:
            if question.begun:
                raise late(seconds) from None
            headers = {"Retry-After": "5"}
            detail = f"The query waited for {seconds:g} s; try again later."
            raise ProblemError(503, "overloaded", "The service is overloaded", detail, headers) from None
        finally:
            if not question.begun:  # nobody waits for it any more
                self._questions.remove(question)

    async def stop(self) -> None:
        """End after the batch in progress; questions that still wait are cancelled."""
        self._task.cancel()
        await asyncio.wait([self._task])
        for question in self._questions:
            question.answer.cancel()

    def _refuse_if_full(self, more: int) -> None:
        depth = self.depth
        if depth and depth + more > self._queue_images:
            raise busy(f"{depth} images wait already, the limit is {self._queue_images}: try again in a second.")

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            if self._coming and self._window and self.depth < self._batch_images:
                await asyncio.sleep(self._window)
            batch = self._next()
            if not batch:
                continue
            try:
                results = await self._engine.run(self._answer, [question.request for question in batch])
            except Exception as error:
                results = [error] * len(batch)
            for question, result in zip(batch, results, strict=True):
                _settle(question.answer, result)

    def _next(self) -> list[Question]:
        """The questions of the next batch, oldest first."""
        batch: list[Question] = []
        size, now = 0, time.perf_counter()
        while self._questions and (not batch or size + len(self._questions[0].request.images) <= self._batch_images):
            question = self._questions.popleft()
            question.begun = True
            self._waited(now - question.queued)
            batch.append(question)
            size += len(question.request.images)
        if not self._questions:
            self._arrived.clear()
        return batch


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():
        return
    if isinstance(result, BaseException):
        answer.set_exception(result)
    else:
        answer.set_result(result)
