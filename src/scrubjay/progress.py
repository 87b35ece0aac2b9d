"""Progress of long loops: the library reports it with `track`, and a caller decides where it is shown.

`live` shows it on a terminal, `shown` on any other `Display`; outside of both, tracking is silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")


class Display(Protocol):
    """Where progress is shown. `rich.progress.Progress` is one."""

    def add_task(self, description: str, *, total: int, completed: int) -> Any:
        """Begin to show a loop; returns what names it in the other calls."""

    def advance(self, task: Any, /) -> None:
        """Count one more item of a loop."""

    def remove_task(self, task: Any, /) -> None:
        """Stop showing a loop, which ended or was left."""


_display: ContextVar[Display | None] = ContextVar("_display", default=None)


@contextmanager
def shown(display: Display) -> Iterator[None]:
    """Show the progress of every tracked loop on a display inside the block."""
    token = _display.set(display)
    try:
        yield
    finally:
        _display.reset(token)


@contextmanager
def live(console: Console) -> Iterator[None]:
    """Show the progress of every tracked loop on `console` inside the block."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress, shown(progress):
        yield


def track(items: Iterable[T], description: str, total: int, done: int = 0) -> Iterator[T]:
    """Yield the items, and count them from `done` to `total` on the display, if there is one."""
    display = _display.get()
    if display is None:
        yield from items
        return
    task = display.add_task(description, total=total, completed=done)
    try:
        for item in items:
            yield item
            display.advance(task)
    finally:
        display.remove_task(task)
