"""Bodies about queries that matched nothing."""

from __future__ import annotations

from scrubjay.service.schemas.base import Record


class UnknownQuery(Record):
    """A query that matched nothing and whose image was kept."""

    query: str
    """Content hash; see `GET /v1/unknown/{query}/image`."""
    time: str
    nearest: str | None
    """Label of its best hit."""


class UnknownGroup(Record):
    """Unknown queries that resemble each other."""

    queries: list[UnknownQuery]


class UnknownAnswer(Record):
    """Whether recent queries look like classes that were never learned."""

    groups: list[UnknownGroup]
    message: str | None
    """What the evidence says, in a sentence; None where there is no evidence of new classes."""
