"""How long the parts of a search take, for callers that ask: the library measures nothing unless they do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_observer: ContextVar[Callable[[str, float], None] | None] = ContextVar("_observer", default=None)


@contextmanager
def observed(observer: Callable[[str, float], None]) -> Iterator[None]:
    """Call a function with the name and the seconds of each part of the searches inside the block.

    >>> seen = []
    >>> with observed(lambda name, seconds: seen.append(name)):
    ...     with part("embed"):
    ...         pass
    >>> seen
    ['embed']
    """
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


@contextmanager
def part(name: str) -> Iterator[None]:
    """Measure the block as one part of a search; see `observed`."""
    observer = _observer.get()
    if observer is None:
        yield
        return
    began = time.perf_counter()
    yield
    observer(name, time.perf_counter() - began)
