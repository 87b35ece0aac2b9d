"""What routes ask for: the open catalogue, and that the caller may do what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from scrubjay.service.keys import SCOPES
from scrubjay.service.opened import OpenCatalogue
from scrubjay.service.problems import ProblemError
from scrubjay.service.schemas.base import Scope

_bearer = HTTPBearer(auto_error=False, description="An API key, made with `scrubjay keys make`.")


def _opened(request: Request) -> OpenCatalogue:
    opened: OpenCatalogue = request.app.state.opened
    return opened


def caller_scopes(request: Request) -> tuple[Scope, ...]:
    """What the caller may do; the key was checked before the body of the request was read."""
    scopes: tuple[Scope, ...] = request.state.scopes
    return scopes


def _needs(scope: Scope) -> Callable[..., None]:
    def check(request: Request) -> None:
        if scope not in caller_scopes(request):
            held = ", ".join(caller_scopes(request))
            raise ProblemError(
                403,
                "scope-missing",
                "The key does not allow this",
                f"This needs a key with the scope {scope}; the key that was sent has: {held}.",
            )

    return check


Opened = Annotated[OpenCatalogue, Depends(_opened)]
"""The open catalogue."""
CallerScopes = Annotated[tuple[Scope, ...], Depends(caller_scopes)]
"""What the caller may do."""

_needed = {scope: _needs(scope) for scope in SCOPES}
Reader = [Security(_bearer), Depends(_needed["read"])]
"""`dependencies` of a route that needs a key that reads."""
Writer = [Security(_bearer), Depends(_needed["write"])]
"""`dependencies` of a route that needs a key that writes."""
Admin = [Security(_bearer), Depends(_needed["admin"])]
"""`dependencies` of a route that needs a key of an administrator."""
