"""The client for programs that do other things while they wait: `asyncio`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx

from scrubjay.client.call import Call
from scrubjay.client.calls.jobs import job_events
from scrubjay.client.endpoints import Endpoints
from scrubjay.client.events import JobEvents
from scrubjay.client.exchange import Attempts, Settings, problem, result, unreachable
from scrubjay.service.schemas.base import MetadataValue
from scrubjay.service.schemas.items import ItemRecord
from scrubjay.service.schemas.jobs import JobRecord

T = TypeVar("T")


class AsyncClient(Endpoints):
    """Talks to a running service; every method is one request, and a coroutine of what the service answers.

    Use it as an asynchronous context manager, or `close` it.

    Args:
        url: address of the service, such as `http://127.0.0.1:8000`.
        key: API key; None for the environment variable `SCRUBJAY_KEY`, and if that is not set for none.
        timeout: seconds to wait for an answer; requests that learn or compute a gate get ten times as many.
        retries: how often a request is sent again at most, where that is safe.
        longest_wait: longest time in seconds to wait before that.

    Every method raises `ServiceProblem` where the service cannot do what it was asked, and `ServiceError` where it
    cannot be reached.

    Raises:
        ConfigError: the address is not one of HTTP.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 2,
        longest_wait: float = 10.0,
    ) -> None:
        self._settings = Settings(url, key, timeout, retries, longest_wait)
        self._http = httpx.AsyncClient(**self._settings.arguments())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Send a request, again where that is safe, and return its result.

        Raises:
            ServiceProblem: the service could not do what it was asked.
            ServiceError: the service cannot be reached, or its answer cannot be read.
        """
        attempts = Attempts(self._settings, call)
        while True:
            try:
                response = await self._http.request(**call.arguments(), timeout=self._settings.seconds(call))
            except httpx.HTTPError as error:
                wait = attempts.wait_after_error(error)
                if wait is None:
                    raise unreachable(self._settings, error) from error
            else:
                wait = attempts.wait_after_answer(response)
                if wait is None:
                    return result(call, response)
            await asyncio.sleep(wait)

    async def all_items(
        self, *, labels: Sequence[str] = (), where: Mapping[str, MetadataValue] | None = None
    ) -> AsyncIterator[ItemRecord]:
        """All items in the order of their ids, page by page.

        Args:
            labels: only items with one of these labels; empty for all.
            where: only items whose metadata have all these values.
        """
        cursor = None
        while True:
            page = await self.items(cursor, labels=labels, where=where)
            for item in page.items:
                yield item
            cursor = page.cursor
            if cursor is None:
                return

    async def job_progress(self, id: str) -> AsyncIterator[JobRecord]:
        """A job whenever it gets on, until it has ended; a connection that breaks is made anew.

        Args:
            id: identity of the job.
        """
        call, events = job_events(id), JobEvents()
        attempts = Attempts(self._settings, call)
        while not events.ended:
            try:
                async with self._http.stream(**call.arguments()) as response:
                    if not response.is_success:
                        await response.aread()
                        wait = attempts.wait_after_answer(response)
                        if wait is None:
                            raise problem(response)
                        await asyncio.sleep(wait)
                        continue
                    async for line in response.aiter_lines():
                        record = events.feed(line)
                        if record is not None:
                            attempts = Attempts(self._settings, call)
                            yield record
                if not events.ended:
                    raise httpx.RemoteProtocolError("the stream of events ended before the job")
            except httpx.HTTPError as error:
                wait = attempts.wait_after_error(error)
                if wait is None:
                    raise unreachable(self._settings, error) from error
                await asyncio.sleep(wait)

    async def wait_for_job(self, id: str) -> JobRecord:
        """Wait until a job has ended, and return it.

        Args:
            id: identity of the job.
        """
        record = await self.job(id)
        async for record in self.job_progress(id):  # noqa: B007  # the last one is the result
            pass
        return record
