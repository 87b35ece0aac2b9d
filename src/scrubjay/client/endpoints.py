"""The methods that both clients have, each declared once from the function that makes its request."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, overload

from pydantic import ValidationError

from scrubjay.client import calls
from scrubjay.client.call import Call
from scrubjay.errors import ConfigError

if TYPE_CHECKING:
    from scrubjay.client.asynchronous import AsyncClient
    from scrubjay.client.synchronous import Client

P = ParamSpec("P")
T = TypeVar("T")


class Endpoint(Generic[P, T]):
    """A method of both clients that takes the arguments of a function which makes a `Call`, and sends it.

    Args:
        make: makes the request.
    """

    def __init__(self, make: Callable[P, Call[T]]) -> None:
        self.make = make
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Client | AsyncClient | None, owner: type) -> Any:
        """The method, bound to a client."""
        if client is None:
            return self
        make, send = self.make, client.send

        @functools.wraps(make)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                call = make(*args, **kwargs)
            except ValidationError as error:
                raise ConfigError(_explained(make.__name__, error)) from None
            return send(call)

        signature = inspect.signature(make)
        answer = str(signature.return_annotation).removeprefix("Call[").removesuffix("]")
        method.__signature__ = signature.replace(return_annotation=answer)  # type: ignore[attr-defined]
        return method


def _explained(name: str, error: ValidationError) -> str:
    """The first argument that is not as required, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    argument = ".".join(map(str, first["loc"]))
    return f"{name}: {argument} = {first['input']!r}: {first['msg'].removeprefix('Value error, ')}."


class Endpoints:
    """Everything that can be asked of the service, but for what streams."""

    search = Endpoint(calls.search.search)
    compare = Endpoint(calls.search.compare)
    explain = Endpoint(calls.search.explain)

    items = Endpoint(calls.items.items)
    item = Endpoint(calls.items.item)
    item_image = Endpoint(calls.items.item_image)
    add_items = Endpoint(calls.items.add_items)
    change_item = Endpoint(calls.items.change_item)
    remove_item = Endpoint(calls.items.remove_item)
    remove_items = Endpoint(calls.items.remove_items)

    classes = Endpoint(calls.classes.classes)
    confusions = Endpoint(calls.classes.confusions)
    rename_class = Endpoint(calls.classes.rename_class)
    merge_class = Endpoint(calls.classes.merge_class)
    forget_class = Endpoint(calls.classes.forget_class)
    teach = Endpoint(calls.classes.teach)

    generations = Endpoint(calls.generations.generations)
    gate = Endpoint(calls.generations.gate)
    gate_image = Endpoint(calls.generations.gate_image)
    promote = Endpoint(calls.generations.promote)
    rollback = Endpoint(calls.generations.rollback)

    upload = Endpoint(calls.jobs.upload)
    check = Endpoint(calls.jobs.check)
    remove_upload = Endpoint(calls.jobs.remove_upload)
    upload_image = Endpoint(calls.jobs.upload_image)
    start_job = Endpoint(calls.jobs.start_job)
    jobs = Endpoint(calls.jobs.jobs)
    job = Endpoint(calls.jobs.job)
    cancel_job = Endpoint(calls.jobs.cancel_job)

    unknown = Endpoint(calls.operations.unknown)
    unknown_image = Endpoint(calls.operations.unknown_image)
    remove_unknown = Endpoint(calls.operations.remove_unknown)

    status = Endpoint(calls.operations.status)
    alive = Endpoint(calls.operations.alive)
    ready = Endpoint(calls.operations.ready)
    metrics = Endpoint(calls.operations.metrics)
    openapi = Endpoint(calls.operations.openapi)
