"""Queries that wait together are answered together, each with its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrubjay.service.batching import BatchQueue, Engine
from scrubjay.service.problems import ProblemError
from waiting import GUARD

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """Stands for a request: its images are numbers."""

    images: tuple[int, ...]


class Answering:
    """Answers with the images themselves, notes the batches, and waits where it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[Asked]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def __call__(self, requests: Sequence[Any]) -> list[Any]:
        self.batches.append(list(requests))
        self.begun.set()
        assert self.go_on.wait(GUARD)
        return [
            ValueError(str(request.images)) if -1 in request.images else list(request.images) for request in requests
        ]


def batching(work: Callable[[BatchQueue, Answering], Awaitable[T]], batch: int = 4, most: int = 100) -> T:
    async def run() -> T:
        engine, answering = Engine(), Answering()
        queue = BatchQueue(engine, answering, batch, 0.003, most)
        try:
            return await asyncio.wait_for(work(queue, answering), GUARD)
        finally:
            answering.go_on.set()
            await queue.stop()
            engine.stop()

    return asyncio.run(run())


async def held(queue: BatchQueue, answering: Answering) -> asyncio.Task[Any]:
    """A question that is being answered until `go_on` is set."""
    answering.go_on.clear()
    first = asyncio.create_task(queue.ask(Asked((0,)), GUARD))
    await asyncio.to_thread(answering.begun.wait, GUARD)
    return first


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=6), min_size=1, max_size=20), st.integers(1, 8))
@settings(max_examples=40)
def test_everyone_gets_the_own_answer_in_batches_of_the_limit(asked: list[list[int]], batch: int) -> None:
    async def work(queue: BatchQueue, answering: Answering) -> None:
        first = await held(queue, answering)
        tasks = [asyncio.create_task(queue.ask(Asked(tuple(each)), GUARD)) for each in asked]
        await asyncio.sleep(0)
        assert queue.depth == sum(map(len, asked))
        answering.go_on.set()
        assert await asyncio.gather(*tasks) == asked
        assert await first == [0]
        for taken in answering.batches:
            assert len(taken) == 1 or sum(len(each.images) for each in taken) <= batch
        in_order = [list(each.images) for taken in answering.batches for each in taken]
        assert in_order == [[0], *asked]

    batching(work, batch, 1000)


def test_those_that_wait_are_one_batch() -> None:
    async def work(queue: BatchQueue, answering: Answering) -> list[int]:
        first = await held(queue, answering)
        tasks = [asyncio.create_task(queue.ask(Asked((number,)), GUARD)) for number in range(4)]
        await asyncio.sleep(0)
        answering.go_on.set()
        await asyncio.gather(first, *tasks)
        return [len(batch) for batch in answering.batches]

    assert batching(work) == [1, 4]


def test_a_batch_waits_for_a_query_that_is_being_decoded() -> None:
    async def work(queue: BatchQueue, answering: Answering) -> list[int]:
        async def later() -> None:
            with queue.coming():
                await asyncio.sleep(0)
                await queue.ask(Asked((2,)), GUARD)

        await asyncio.gather(later(), queue.ask(Asked((1,)), GUARD))
        return [len(batch) for batch in answering.batches]

    assert batching(work) == [2]


def test_error_of_one_is_not_that_of_others() -> None:
    async def work(queue: BatchQueue, answering: Answering) -> list[Any]:
        first = await held(queue, answering)
        asked = [Asked((1,)), Asked((-1,)), Asked((2,))]
        tasks = [asyncio.create_task(queue.ask(each, GUARD)) for each in asked]
        await asyncio.sleep(0)
        answering.go_on.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    one, error, two = batching(work)
    assert (one, two) == ([1], [2])
    assert isinstance(error, ValueError)


def test_too_many_are_refused_with_a_time_to_try_again() -> None:
    async def work(queue: BatchQueue, answering: Answering) -> None:
        first = await held(queue, answering)
        task = asyncio.create_task(queue.ask(Asked((1, 2, 3)), GUARD))
        await asyncio.sleep(0)
        with pytest.raises(ProblemError) as refused:
            await queue.ask(Asked((4,)), GUARD)
        assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
        with pytest.raises(ProblemError), queue.coming():
            pass
        answering.go_on.set()
        await asyncio.gather(first, task)
        await queue.ask(Asked((1, 2, 3, 4, 5)), GUARD)  # alone it may be larger than the queue

    batching(work, most=3)


def test_time_limits_tell_whether_it_had_begun() -> None:
    async def work(queue: BatchQueue, answering: Answering) -> None:
        answering.go_on.clear()
        begun = asyncio.create_task(queue.ask(Asked((0,)), 0.2))
        await asyncio.to_thread(answering.begun.wait, GUARD)
        with pytest.raises(ProblemError) as waiting:
            await queue.ask(Asked((1,)), 0.01)
        assert waiting.value.status == 503
        assert queue.depth == 0
        with pytest.raises(ProblemError) as late:
            await begun
        assert late.value.status == 504

    batching(work)


def test_query_of_a_caller_that_left_is_not_answered() -> None:
    async def work(queue: BatchQueue, answering: Answering) -> list[Asked]:
        first = await held(queue, answering)
        gone = asyncio.create_task(queue.ask(Asked((1,)), GUARD))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        answering.go_on.set()
        await first
        await queue.ask(Asked((2,)), GUARD)
        return [each for batch in answering.batches for each in batch]

    assert batching(work) == [Asked((0,)), Asked((2,))]


def test_work_in_the_background_waits_for_all_other() -> None:
    engine, order, go_on = Engine(), [], threading.Event()
    engine.submit(go_on.wait, GUARD)
    futures = [
        engine.submit(order.append, "background", background=True),
        engine.submit(order.append, "one"),
        engine.submit(order.append, "two"),
    ]
    go_on.set()
    for future in futures:
        future.result(GUARD)
    engine.stop()
    assert order == ["one", "two", "background"]
