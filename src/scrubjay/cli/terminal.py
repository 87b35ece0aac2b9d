"""Output to the terminal: plain lines, warnings, live progress, and one-line error messages."""

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
    """Print the problem as one line on stderr, and exit with `code`."""
    errors.print(
        f"scrubjay: {' '.join(problem.splitlines())}", style="red", markup=False, highlight=False, soft_wrap=True
    )
    sys.exit(code)


@contextmanager
def working(resume_with: str = "the same command") -> Iterator[None]:
    """Show live progress inside the block; on Ctrl-C say how to resume, and exit with code 130."""
    from scrubjay import progress

    try:
        with progress.live(errors) if errors.is_terminal else nullcontext():
            yield
    except KeyboardInterrupt:
        warn(f"interrupted: finished work is saved; run {resume_with} again to continue.")
        raise typer.Exit(130) from None


def say(text: str) -> None:
    """Print plain text, without wrapping, so that paths stay in one piece."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a line on stderr, in yellow on a terminal."""
    errors.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def report_failures(failures: Any) -> None:
    """Print path and reason of up to ten images that were left out, and the number of the others."""
    for path, reason in list(failures)[:10]:
        warn(f"left out {path}: {reason}")
    if len(failures) > 10:
        warn(f"… and {len(failures) - 10} more")
