"""Limits of requests: bytes of a body while it is read, requests in flight, and requests a second."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import Message, Receive

from scrubjay.service.problems import ProblemError

_CALLERS = 10_000
IDLE_SECONDS = 30.0
"""Seconds that may pass between two parts of a body."""


def limited(receive: Receive, limit: int, declared: str | None, idle: float = IDLE_SECONDS) -> Receive:
    """The body of a request, refused as soon as it is known to be larger than `limit` bytes, or when it stops coming.

    Args:
        receive: reads the body.
        limit: largest number of bytes.
        declared: the header Content-Length, if there is one.
        idle: seconds that may pass between two parts of the body.

    Raises:
        ProblemError: the body is said to be larger (413); later, from `receive`, that it is, or stops coming (408).
    """
    if declared is not None and declared.isdecimal() and int(declared) > limit:
        raise too_large(limit)
    size, complete = 0, False

    async def counted() -> Message:
        nonlocal size, complete
        if complete:  # what comes next is that the caller leaves, which may take as long as the answer
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), idle)
        except TimeoutError:
            raise ProblemError(
                408, "body-incomplete", "The body did not arrive", f"No part of it came for {idle:g} s; send it again."
            ) from None
        complete = not message.get("more_body", False)
        size += len(message.get("body", b""))
        if size > limit:
            raise too_large(limit)
        return message

    return counted


def too_large(limit: int) -> ProblemError:
    """413: a body has more than `limit` bytes."""
    detail = f"The body has more than {limit // 2**20} MiB: send less at a time, or raise the limit of the service."
    return ProblemError(413, "body-too-large", "The body is too large", detail, {"Connection": "close"})


class RateLimit:
    """A token bucket for each caller: `rate` requests a second, and up to `burst` at once.

    Args:
        rate: requests a second.
        burst: requests at once.
        clock: seconds.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count a request.

        Raises:
            ProblemError: the caller sent too many (429).
        """
        now = self._clock()
        tokens, since = self._buckets.pop(caller, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        self._buckets[caller] = (max(0.0, tokens - 1), now) if tokens >= 1 else (tokens, now)
        if len(self._buckets) > _CALLERS:
            self._buckets.popitem(last=False)
        if tokens < 1:
            seconds = max(1, round((1 - tokens) / self._rate))
            detail = f"More than {self._rate:g} requests a second: try again in {seconds} s."
            raise ProblemError(429, "rate-limited", "Too many requests", detail, {"Retry-After": str(seconds)})
