"""Live progress: the library says what it works through; only a caller that asks for it sees a bar."""

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
    """Inside of the block, everything that is tracked shows on `console`; outside, tracking is silent."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        token = _shown.set(progress)
        try:
            yield
        finally:
            _shown.reset(token)


def track(items: Iterable[T], description: str, total: int, done: int = 0) -> Iterator[T]:
    """The items, counted from `done` to `total` on the live display when there is one."""
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
