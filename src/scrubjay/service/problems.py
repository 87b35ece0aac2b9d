"""One shape for all errors: problem details (RFC 9457), from errors of the library, of validation and of routes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from scrubjay.errors import (
    CatalogueError,
    CheckpointError,
    GateFailedError,
    ImageError,
    InUseError,
    NotFoundError,
    ScrubjayError,
    SpaceError,
    UserError,
)
from scrubjay.service.schemas.problems import FieldError, Problem

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class ProblemError(HTTPException):
    """A request that cannot be answered as asked.

    The framework passes on an `HTTPException` that is raised while it reads a body; it would hide any other error.

    Attributes:
        status: status code.
        type: kind of problem: lower-case words with hyphens, such as `image-refused`.
        title: the kind in words.
        detail: what is wrong in this case and what would be right.
        headers: further headers of the answer.
        errors: the fields that are not as required.
    """

    def __init__(
        self,
        status: int,
        type: str,  # the member's name in RFC 9457
        title: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        super().__init__(status, detail, headers)
        self.status, self.type, self.title, self.errors = status, type, title, list(errors)


def not_found(detail: str) -> ProblemError:
    """404: what the path or the request names does not exist."""
    return ProblemError(404, "not-found", "Not found", detail)


def conflict(detail: str) -> ProblemError:
    """409: the catalogue is not in a state in which this can be done."""
    return ProblemError(409, "conflict", "The state of the catalogue does not allow this", detail)


def image_refused(detail: str) -> ProblemError:
    """422: a file is not an image that can be used."""
    return ProblemError(422, "image-refused", "The image cannot be used", detail)


def busy(detail: str, seconds: int = 1) -> ProblemError:
    """429: too many queries wait."""
    return ProblemError(429, "busy", "The service is busy", detail, {"Retry-After": str(seconds)})


_OF_ERRORS: Sequence[tuple[type[ScrubjayError], int, str, str, Mapping[str, str] | None]] = (
    (ImageError, 422, "image-refused", "The image cannot be used", None),
    (GateFailedError, 409, "gate-failed", "The gate of the generation failed", None),
    (InUseError, 409, "in-use", "Somebody else writes to the catalogue", {"Retry-After": "5"}),
    (NotFoundError, 404, "not-found", "Not found", None),
    (CatalogueError, 409, "conflict", "The state of the catalogue does not allow this", None),
    (SpaceError, 409, "conflict", "The state of the catalogue does not allow this", None),
    (CheckpointError, 500, "damaged", "Stored data is damaged", None),
    (UserError, 422, "invalid-request", "The request is not as required", None),
)
"""Errors of the library, the most special first, and the problems that they are."""


def late(seconds: float) -> ProblemError:
    """504: the answer took too long."""
    return ProblemError(504, "timeout", "The answer took too long", f"There was no answer in {seconds:g} s.")


def of_error(error: ScrubjayError, folder: Path) -> ProblemError:
    """The problem that an error of the library is; paths of the catalogue's folder are left out."""
    detail = str(error)
    for path in (str(folder.absolute()), str(folder)):
        detail = detail.replace(f"{path}/", "").replace(path, folder.name)
    for kinds, status, type, title, headers in _OF_ERRORS:
        if isinstance(error, kinds):
            return ProblemError(status, type, title, detail, headers)
    return ProblemError(503, "storage-failed", "The storage failed", detail, {"Retry-After": "5"})


def of_validation(error: RequestValidationError) -> ProblemError:
    """The problem of a request that does not fit the schema."""
    errors = [
        FieldError(
            field=".".join(str(part) for part in each["loc"]), message=str(each["msg"]).removeprefix("Value error, ")
        )
        for each in error.errors()
    ]
    first = f"{errors[0].field}: {errors[0].message}" if errors else "see the schema in /docs"
    more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    return ProblemError(
        422, "invalid-request", "The request is not as required", f"{first}{more}.", errors=errors[:100]
    )


def of_http(error: HTTPException) -> ProblemError:
    """The problem of an error that the framework raised, such as an unknown path."""
    phrase = HTTPStatus(error.status_code).phrase
    kind = phrase.lower().replace(" ", "-").replace("'", "")
    return ProblemError(error.status_code, kind, phrase, str(error.detail), error.headers)


def response(problem: ProblemError, scope: Scope) -> Response:
    """The answer to a request that ended with a problem."""
    body = Problem(
        type=f"/problems/{problem.type}",
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        instance=str(scope.get("path", "")),
        request_id=scope.get("state", {}).get("request_id", ""),
        errors=problem.errors,
    )
    text = body.model_dump_json().encode("utf-8", "backslashreplace")
    return Response(text, problem.status, problem.headers, MEDIA_TYPE)


def internal(scope: Scope) -> Response:
    """The answer to a request on which the service itself failed; the log holds the reason."""
    detail = "The service failed; its log tells more under the identity of this request."
    return response(ProblemError(500, "internal", "The service failed", detail), scope)


def install(app: FastAPI, folder: Path) -> None:
    """Let an application answer all errors with problem details."""

    async def of_problem(request: Request, error: Exception) -> Response:
        if isinstance(error, ScrubjayError):
            error = of_error(error, folder)
            if error.status >= 500:
                logger.error("%s", error.detail)
        elif isinstance(error, RequestValidationError):
            error = of_validation(error)
        elif isinstance(error, HTTPException) and not isinstance(error, ProblemError):
            error = of_http(error)
        assert isinstance(error, ProblemError)
        return response(error, request.scope)

    for kind in (ProblemError, ScrubjayError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, of_problem)


MEANINGS = {
    400: "The body cannot be read.",
    401: "The API key is missing, unknown or revoked.",
    403: "The key does not allow this, or the request comes from a page of another site.",
    404: "What the request names does not exist.",
    408: "The body did not arrive in time.",
    409: "The state of the catalogue does not allow this.",
    410: "The image file of the item is missing or has changed.",
    413: "The body or a file is too large.",
    421: "Without API keys the service answers under the names of this machine only.",
    422: "The request or an image is not as required.",
    429: "Too many requests; Retry-After says when to try again.",
    500: "The service failed.",
    503: "The service is overloaded, or its storage cannot be reached; Retry-After says when to try again.",
    504: "The answer took too long.",
}
"""What status codes mean."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: what these status codes mean, each with the one shape of errors."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": MEANINGS[status], "content": content} for status in statuses}


COMMON = (400, 401, 403, 408, 413, 421, 422, 429, 500, 503)
"""Status codes that every route may answer with."""
