"""Time, throughput and peak memory of each phase of a run."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class Phase:
    """Measures one phase from its construction to `record`."""

    def __init__(self, session: int, name: str) -> None:
        """Start the clock, and reset the peak of the process' memory where the system can.

        Args:
            session: index of the session, 0 for the initial one.
            name: "learn", "embed", "bridge" or "evaluate".
        """
        self.session = session
        self.name = name
        self._reset = _reset_peak()
        self._began = time.perf_counter()

    def record(self, images: int) -> dict[str, Any]:
        """The entry of `phases` in `result.json`.

        Args:
            images: number of images that were processed, repeats included.
        """
        seconds = time.perf_counter() - self._began
        return {
            "session": self.session,
            "phase": self.name,
            "seconds": round(seconds, 3),
            "images": images,
            "images_per_second": round(images / seconds, 1) if seconds > 0 else None,
            "peak_mb": _peak_mb(since_reset=self._reset),
            "peak_since": "phase" if self._reset else "start",
        }


def _reset_peak() -> bool:
    """Reset the peak resident memory of this process (Linux' VmHWM); False where that is not possible."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return _high_water_mark() is not None


def _high_water_mark() -> int | None:
    """Peak resident memory since the last reset in KiB (VmHWM); None where the system does not tell."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return None


def _peak_mb(since_reset: bool) -> int:
    """Peak resident memory in MiB: since the last reset, or else since the start of the process."""
    peak = _high_water_mark() if since_reset else None
    if peak is not None:
        return peak // 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)
