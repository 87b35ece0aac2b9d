"""What both clients do around a request: settings, errors of the service, and whether to try again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from scrubjay.client.call import Call
from scrubjay.errors import ConfigError, ServiceError, ServiceProblem

T = TypeVar("T")

SLOW = 10.0
"""Requests that may take minutes are waited for so many times as long as others."""
_BACKOFF = 0.2
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a service is reached.

    Attributes:
        url: address of the service, such as `http://127.0.0.1:8000`.
        key: API key; None for the environment variable `SCRUBJAY_KEY`, and if that is not set for none.
        timeout: seconds to wait for an answer; requests that learn or compute a gate get ten times as many.
        retries: how often a request is sent again at most.
        longest_wait: longest time in seconds to wait before that; the service may ask for a longer one in vain.
    """

    url: str
    key: str | None = None
    timeout: float = 60.0
    retries: int = 2
    longest_wait: float = 10.0

    def arguments(self) -> dict[str, Any]:
        """Arguments of `httpx.Client` and `httpx.AsyncClient`.

        Raises:
            ConfigError: the address is not one of HTTP, or the key holds characters that no key has.
        """
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"{self.url!r} is not the address of a service: {error}.") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(f"{self.url!r} is not the address of a service; write it as http://127.0.0.1:8000.")
        key = self.key if self.key is not None else os.environ.get("SCRUBJAY_KEY")
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise ConfigError("the API key holds characters that no key has; copy it anew from `scrubjay keys make`.")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # Certificates take a while to load, which nothing reads where the connection is not encrypted.
        return {"base_url": url, "headers": headers, "timeout": self.timeout, "verify": url.scheme == "https"}

    def seconds(self, call: Call[Any]) -> httpx.Timeout:
        """How long to wait for the answer of a request."""
        answer = self.timeout * SLOW if call.slow else self.timeout
        return httpx.Timeout(answer, connect=min(self.timeout, 10.0))


def result(call: Call[T], response: httpx.Response) -> T:
    """The result that an answer holds.

    Raises:
        ServiceProblem: the service could not do what it was asked.
        ServiceError: the answer cannot be read.
    """
    if response.is_success:
        return call.read(response.content)
    raise problem(response)


def problem(response: httpx.Response) -> ServiceProblem:
    """What an answer says that went wrong; answers of another program, such as a proxy, are taken as they are."""
    try:
        body = json.loads(response.content)
    except ValueError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("detail"), str):
        body = {"detail": f"{response.request.url} answered {response.status_code} {response.reason_phrase}."}
    errors = [each for each in body.get("errors") or () if isinstance(each, dict)]
    return ServiceProblem(
        status=response.status_code,
        detail=body["detail"],
        type=str(body.get("type", "about:blank")),
        title=str(body.get("title") or response.reason_phrase),
        request_id=str(body.get("request_id") or response.headers.get("X-Request-ID", "")),
        retry_after=_seconds(response.headers.get("Retry-After")),
        errors=[(str(each.get("field", "")), str(each.get("message", ""))) for each in errors],
    )


def unreachable(settings: Settings, error: httpx.HTTPError) -> ServiceError:
    """The error that a request got no answer."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, _UNSENT):
        return ServiceError(f"{settings.url} did not answer in time: try again, or give a longer `timeout`.")
    reason = str(error) or type(error).__name__
    return ServiceError(
        f"{settings.url} cannot be reached ({reason}): check the address, and that `scrubjay serve` runs there."
    )


class Attempts:
    """Decides after each attempt of a request whether there is another one, and how long to wait before it.

    A request that was refused for the moment (429) or never got out is sent again whatever it does. One of which it
    is unknown whether it was carried out is sent again only if that does no harm.

    Args:
        settings: number of attempts and longest wait.
        call: the request.
    """

    def __init__(self, settings: Settings, call: Call[Any]) -> None:
        self._settings, self._call = settings, call
        self._backoff: Iterator[float] = iter([_BACKOFF * 2**number for number in range(settings.retries)])

    def wait_after_answer(self, response: httpx.Response) -> float | None:
        """Seconds until the next attempt; None if this answer is the result."""
        if response.status_code not in (429, 503) or not (response.status_code == 429 or self._call.repeatable):
            return None
        return self._next(_seconds(response.headers.get("Retry-After")))

    def wait_after_error(self, error: httpx.HTTPError) -> float | None:
        """Seconds until the next attempt; None if there is none."""
        late = isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout)
        sent_again = isinstance(error, _UNSENT) or (self._call.repeatable and isinstance(error, httpx.TransportError))
        return self._next(None) if sent_again and not late else None

    def _next(self, asked: float | None) -> float | None:
        pause = next(self._backoff, None)
        if pause is None or (asked or 0.0) > self._settings.longest_wait:
            return None
        return pause if asked is None else max(asked, pause)


def _seconds(header: str | None) -> float | None:
    """The header Retry-After in seconds; its other form, a date, is not sent by the service and passed over.

    >>> _seconds("3"), _seconds("Fri, 31 Dec 1999 23:59:59 GMT")
    (3.0, None)
    """
    return float(header) if header is not None and header.isascii() and header.isdigit() else None
