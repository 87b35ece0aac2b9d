"""Limits hold for any sequence of requests, and for bodies of any shape."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from scrubjay.service.limits import RateLimit, limited
from scrubjay.service.problems import ProblemError


@given(
    st.lists(st.floats(0, 3), max_size=60),
    st.floats(0.1, 20),
    st.integers(1, 10),
)
def test_no_caller_sends_more_than_the_burst_and_the_rate(pauses: list[float], rate: float, burst: int) -> None:
    now = 0.0
    limit = RateLimit(rate, burst, lambda: now)
    taken: list[float] = []
    for pause in pauses:
        now += pause
        try:
            limit.take("one")
        except ProblemError:
            continue
        taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + rate * (taken[last] - taken[first]) + 1e-6


def test_callers_do_not_share_a_limit_and_are_forgotten_when_there_are_many() -> None:
    limit = RateLimit(0.001, 1, lambda: 0.0)
    limit.take("one")
    with pytest.raises(ProblemError) as refused:
        limit.take("one")
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1000"})
    for number in range(10_001):
        limit.take(f"other {number}")
    assert len(limit._buckets) == 10_000


def test_body_that_stops_coming_is_given_up_but_not_the_answer() -> None:
    messages: list[Message] = [{"type": "http.request", "body": b"a", "more_body": True}]

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    async def stops() -> None:
        counted = limited(receive, 10, None, idle=0.01)
        await counted()
        with pytest.raises(ProblemError) as refused:
            await counted()
        assert refused.value.status == 408

    async def ends() -> None:
        messages.append({"type": "http.request", "body": b"a", "more_body": False})
        counted = limited(receive, 10, None, idle=0.01)
        await counted()
        assert (await counted())["type"] == "http.disconnect"

    asyncio.run(stops())
    asyncio.run(ends())


@given(st.lists(st.binary(max_size=9), max_size=12), st.integers(0, 40), st.booleans())
def test_body_is_read_up_to_its_limit(parts: list[bytes], limit: int, tells: bool) -> None:
    messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    size = sum(map(len, parts))

    async def receive() -> Message:
        return messages.pop(0)

    async def read() -> int:
        counted = limited(receive, limit, str(size) if tells else None)
        return sum([len((await counted())["body"]) for _ in range(len(parts))])

    if size <= limit:
        assert asyncio.run(read()) == size
    else:
        with pytest.raises(ProblemError) as refused:
            asyncio.run(read())
        assert refused.value.status == 413
