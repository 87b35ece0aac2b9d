"""The body of all errors."""

from __future__ import annotations

from pydantic import Field

from scrubjay.service.schemas.base import Record


class FieldError(Record):
    """One field of a request that is not as required."""

    field: str
    """Where it stands, such as `body.k`."""
    message: str
    """What is wrong with it."""


class Problem(Record):
    """The one shape of all errors: problem details, RFC 9457, as `application/problem+json`."""

    type: str
    """Which kind of problem, such as `/problems/image-refused`; the same kind has the same type."""
    title: str
    """The kind in words."""
    status: int
    """Status code of the answer."""
    detail: str
    """What is wrong in this case and what would be right."""
    instance: str
    """Path of the request."""
    request_id: str
    """Identity of the request, which the log holds as well; also the header X-Request-ID."""
    errors: list[FieldError] = Field(default_factory=list)
    """The fields that are not as required, for a request that does not fit the schema."""
