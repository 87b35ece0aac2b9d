"""Waiting for what other processes do: for events, never for a number of seconds that a slow machine may exceed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

GUARD = 900.0
"""Seconds after which a test that waits for another process is taken to hang; no working machine needs as many."""


def until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Return when a condition holds; fail when the process that is to bring it about ends before."""
    deadline = time.monotonic() + GUARD
    while not condition():
        if process is not None and process.poll() is not None and not condition():
            raise AssertionError(f"the process ended before, with exit code {process.returncode}")
        assert time.monotonic() < deadline, f"nothing happened in {GUARD:.0f} seconds"
        time.sleep(0.02)
