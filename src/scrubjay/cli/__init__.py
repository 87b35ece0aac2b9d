"""The console script. A mistake of the user is reported in one line, with exit code 2."""

from __future__ import annotations

import io
import sys

from scrubjay.cli import catalogue, checks, experiments, generations, learned, search, service, sharing
from scrubjay.cli.app import app
from scrubjay.cli.terminal import fail
from scrubjay.errors import ScrubjayError
from scrubjay.workers.ranks import launched

__all__ = [
    "app",
    "catalogue",
    "checks",
    "experiments",
    "generations",
    "learned",
    "main",
    "search",
    "service",
    "sharing",
]


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not be able to show all characters of file names
            stream.reconfigure(errors="backslashreplace")
    try:
        if launched() == 1:
            app()
        else:
            from scrubjay.training.together import under_launcher

            under_launcher(app)
    except ScrubjayError as error:
        fail(str(error), error.exit_code)
    except OSError as error:
        fail(
            f"{error.filename or 'system'}: {error.strerror or error}; check path, permissions and free space.",
            1,
        )
