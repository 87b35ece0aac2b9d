"""What a terminal shows: plain lines, warnings, live progress, and the one line of a mistake."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

import typer
from rich.console import Console

console = Console(width=None if sys.stdout.isatty() else 100)
errors = Console(stderr=True)


def fail(problem: str, code: int) -> NoReturn:
    """One line, and the end."""
    errors.print(
        f"scrubjay: {' '.join(problem.splitlines())}", style="red", markup=False, highlight=False, soft_wrap=True
    )
    sys.exit(code)


@contextmanager
def working(again: str = "the same command") -> Iterator[None]:
    """Live progress; Ctrl-C says what to give to go on."""
    from scrubjay import progress

    try:
        with progress.live(errors) if errors.is_terminal else nullcontext():
            yield
    except KeyboardInterrupt:
        warn(f"interrupted: what is done is saved; give {again} again to go on.")
        raise typer.Exit(130) from None


def say(text: str) -> None:
    """Plain text, never wrapped in the middle of a path."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """A line on stderr."""
    errors.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def report_failures(failures: Any) -> None:
    """Name images that were left out."""
    for path, reason in list(failures)[:10]:
        warn(f"left out {path}: {reason}")
    if len(failures) > 10:
        warn(f"… and {len(failures) - 10} more")
