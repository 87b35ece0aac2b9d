"""Requests about unknown queries, and about the service itself."""

from __future__ import annotations

import json
from typing import Any

from scrubjay.client.call import Call, answer_of, nothing, raw
from scrubjay.service.schemas.operations import CatalogueRecord, Ready
from scrubjay.service.schemas.unknown import UnknownAnswer


def unknown() -> Call[UnknownAnswer]:
    """Recent queries that matched nothing, grouped by likeness, and whether they look like new classes."""
    return Call("GET", "/v1/unknown", answer_of(UnknownAnswer), slow=True)


def unknown_image(query: str, *, side: int | None = None) -> Call[bytes]:
    """The kept image of an unknown query as the content of a JPEG file.

    Args:
        query: content hash of the query.
        side: length of its longer side in pixels, up to 2048; None for that of the service.
    """
    return Call("GET", "/v1/unknown/{query}/image", raw, {"query": query}, {"side": side})


def remove_unknown(query: str) -> Call[None]:
    """Remove the kept image of an unknown query."""
    return Call("DELETE", "/v1/unknown/{query}", nothing, {"query": query}, repeatable=False)


def status() -> Call[CatalogueRecord]:
    """The catalogue in figures, and what the key allows."""
    return Call("GET", "/v1/status", answer_of(CatalogueRecord))


def alive() -> Call[Ready]:
    """Return if the service's process runs."""
    return Call("GET", "/healthz", answer_of(Ready))


def ready() -> Call[Ready]:
    """Whether the service answers queries; raises a `ServiceProblem` of status 503 where it does not yet."""
    return Call("GET", "/readyz", answer_of(Ready), repeatable=False)


def metrics() -> Call[str]:
    """Figures of the service in the text format of Prometheus."""
    return Call("GET", "/metrics", bytes.decode)


def openapi() -> Call[dict[str, Any]]:
    """The OpenAPI document of the service."""
    return Call("GET", "/openapi.json", json.loads)
