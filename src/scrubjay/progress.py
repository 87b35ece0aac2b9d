"""Progress of long loops: the library reports it with `track`, and only a caller that opens `live` shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

T = TypeVar("T")
_shown: ContextVar[Progress | None] = ContextVar("_shown", default=None)


@contextmanager
def live(console: Console) -> Iterator[None]:
    """Show the progress of every tracked loop on `console` inside the block; outside, tracking is silent."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        token = _shown.set(progress)
        try:
            yield
        finally:
            _shown.reset(token)


def track(items: Iterable[T], description: str, total: int, done: int = 0) -> Iterator[T]:
    """Yield the items, and count them from `done` to `total` on the live display, if there is one."""
    progress = _shown.get()
    if progress is None:
        yield from items
        return
    task = progress.add_task(description, total=total, completed=done)
    try:
        for item in items:
            yield item
            progress.advance(task)
    finally:
        progress.remove_task(task)
