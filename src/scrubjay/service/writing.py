"""Writes to the catalogue from requests: one after another, after what other processes are writing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from scrubjay.errors import InUseError
from scrubjay.service.opened import OpenCatalogue

T = TypeVar("T")

PAUSE = 0.1
"""Seconds between two attempts while somebody else writes to the catalogue."""


async def when_free(opened: OpenCatalogue, write: Callable[[], Awaitable[T]]) -> T:
    """Write as soon as nobody else does, if that is within the time of a request.

    Raises:
        InUseError: somebody else has been writing for all that time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + opened.options.request_seconds
    while True:
        try:
            return await write()
        except InUseError:
            if loop.time() > deadline or opened.stopping.is_set():
                raise
        await asyncio.sleep(PAUSE)
