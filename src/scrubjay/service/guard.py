"""What every request passes before a route sees it: identity, limits, origin, key; and the headers of every answer."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scrubjay.errors import StorageError
from scrubjay.service import logs
from scrubjay.service.keys import SCOPES, Key, KeyFile
from scrubjay.service.limits import RateLimit, limited
from scrubjay.service.options import ServiceOptions, is_loopback
from scrubjay.service.problems import ProblemError, internal, of_error, response

if TYPE_CHECKING:
    from scrubjay.service.metrics import Metrics

logger = logging.getLogger(__name__)

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
}
"""Security headers of every answer."""
_SAFE = ("GET", "HEAD", "OPTIONS")
_UNCOUNTED = ("/healthz", "/readyz", "/metrics")
_LARGE = ("/v1/items", "/v1/uploads", "/v1/classes/")
"""What the paths begin with whose requests may hold many images."""


class Recorder:
    """The outermost layer: gives each request an identity, logs and counts it, and answers when all else has failed."""

    def __init__(self, app: ASGIApp, metrics: Callable[[], Metrics | None]) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0  # a caller that leaves gets no status
        request_id = secrets.token_hex(8)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id

        async def recorded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/v1"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        metrics = self._metrics()
        if metrics is not None:
            metrics.in_flight.inc()
        try:
            await self._app(scope, receive, recorded)
        except Exception:
            logger.exception("request %s failed", request_id)
            if status:
                raise  # the answer has begun, so that only the connection can be closed
            await internal(scope)(scope, receive, recorded)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "none")
            logs.request(request_id, scope["method"], route, status, 1000 * seconds, state.get("key"))
            if metrics is not None:
                metrics.in_flight.dec()
                metrics.requests.labels(_method(scope), route, str(status)).inc()
                metrics.request_seconds.labels(route).observe(seconds)


class Guard:
    """Refuses requests before their body is read: too many, from other sites, without a valid key, or too large.

    Args:
        app: the application behind it.
        keys: the API keys.
        options: limits.
    """

    def __init__(self, app: ASGIApp, keys: KeyFile, options: ServiceOptions) -> None:
        self._app, self._keys, self._options = app, keys, options
        self._rate = RateLimit(options.rate, options.rate_burst)
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            receive = self._admit(scope, receive)
        except ProblemError as problem:
            await response(problem, scope)(scope, receive, send)
            return
        counted = scope["path"] not in _UNCOUNTED
        self._in_flight += counted
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight -= counted

    def _admit(self, scope: Scope, receive: Receive) -> Receive:
        """The request's body under its limit.

        Raises:
            ProblemError: the request is refused.
        """
        headers = Headers(scope=scope)
        path = scope["path"]
        key, required = self._key(headers)
        scope["state"]["key"] = None if key is None else key.id
        scope["state"]["keys_required"] = required
        scope["state"]["scopes"] = (() if key is None else key.scopes) if required else SCOPES
        if not required:
            _refuse_foreign_host(headers.get("host", ""))
        if scope["method"] not in _SAFE:
            _refuse_foreign_origin(headers, scope, self._options.origins)
        if path not in _UNCOUNTED:
            self._refuse_too_many()
            self._rate.take(key.id if key is not None else _address(scope))
        if required and key is None and (path.startswith("/v1") or path == "/metrics"):
            detail = "Send an API key in the header Authorization: Bearer KEY; the one that was sent is not valid."
            if "authorization" not in headers:
                detail = "Send an API key in the header Authorization: Bearer KEY."
            raise ProblemError(401, "key-required", "A key is required", detail, {"WWW-Authenticate": "Bearer"})
        large = path.startswith(_LARGE)
        limit = 2**20 * (self._options.upload_mb if large else self._options.body_mb)
        return limited(receive, limit, headers.get("content-length"))

    def _key(self, headers: Headers) -> tuple[Key | None, bool]:
        """The valid key that the request holds, and whether one is needed."""
        scheme, _, presented = headers.get("authorization", "").partition(" ")
        try:
            required = self._keys.required or not self._options.loopback
            key = self._keys.find(presented.strip()) if scheme.lower() == "bearer" else None
        except StorageError as error:
            raise of_error(error, self._keys.folder) from None
        return key, required

    def _refuse_too_many(self) -> None:
        if self._in_flight >= self._options.requests_in_flight:
            detail = f"{self._in_flight} requests are being handled, which is the limit: try again in a second."
            raise ProblemError(503, "overloaded", "The service is overloaded", detail, {"Retry-After": "1"})


def _refuse_foreign_host(host: str) -> None:
    """Without keys, a page of another site must not reach the service by a name that leads to this machine."""
    name = urlsplit(f"//{host}").hostname if _is_host(host) else None
    if name is None or not is_loopback(name):
        raise ProblemError(
            421,
            "host-refused",
            "The service is not known under this name",
            "Without API keys the service answers as localhost or 127.0.0.1 only; make a key: scrubjay keys make",
        )


def _is_host(host: str) -> bool:
    try:
        return bool(urlsplit(f"//{host}").hostname)
    except ValueError:
        return False


def _refuse_foreign_origin(headers: Headers, scope: Scope, allowed: tuple[str, ...]) -> None:
    """Requests that change something are not taken from pages of other sites."""
    origin = headers.get("origin")
    if origin is None:
        foreign = headers.get("sec-fetch-site") == "cross-site"
    else:
        # behind a proxy that ends TLS the scheme of the page is not the one that is seen here
        foreign = origin not in allowed and origin.partition("://")[2] != headers.get("host", "")
    if foreign:
        detail = "Requests from pages of other sites are refused; allow the site with the option origins."
        raise ProblemError(403, "origin-refused", "The page's site is not allowed", detail)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return "unknown" if client is None else str(client[0])


def _method(scope: Scope) -> str:
    """The method as a label; unknown methods are counted together, so that the number of labels is bounded."""
    known = ("GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"
