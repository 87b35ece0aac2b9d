"""One run in a process of its own. It saves and ends when the process that started it asks for it, or is gone.

The order comes as one line of JSON on stdin, which then stays open: its end is the interrupt. So a worker never
outlives its master, however that ends, and gets one interrupt where a terminal would send it two.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from scrubjay.errors import ScrubjayError
from scrubjay.experiments import run as experiment


class Worker:
    """The side of the master."""

    def __init__(
        self, options: experiment.ExperimentOptions, out: Path, start: Path | None, activations: Path, threads: int
    ) -> None:
        """Start it; arguments as of `experiment.run`, and the number of threads that it computes with."""
        order = {
            "options": options.model_dump(mode="json"),
            "out": str(out),
            "start": None if start is None else str(start),
            "activations": str(activations),
        }
        self._log = out / "log.txt"
        out.mkdir(parents=True, exist_ok=True)
        self._began = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scrubjay.experiments.worker"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},  # read when torch is imported, not later
                start_new_session=True,
            )
        with suppress(BrokenPipeError):  # it died at once: its log says why
            self._pipe.write(json.dumps(order).encode() + b"\n")
            self._pipe.flush()

    @property
    def _pipe(self) -> Any:
        return self._process.stdin

    def ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None

    def interrupt(self) -> None:
        """Ask it to save and to end."""
        with suppress(BrokenPipeError):
            self._pipe.close()

    def end(self) -> tuple[float, str | None]:
        """Wait for its end: the seconds it took, and what went wrong, in one line, or None."""
        code = self._process.wait()
        self.interrupt()
        seconds = time.perf_counter() - self._began
        if code < 0:
            return seconds, f"ended by signal {-code}; if memory was short, give fewer --jobs"
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return seconds, (lines or [f"exit code {code}"])[-1] if code else None


def main() -> None:
    """The side of the worker."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the master runs in the background
    try:
        line = sys.stdin.readline()
        threading.Thread(target=_watch, daemon=True).start()
        order = json.loads(line)
        experiment.run(
            experiment.ExperimentOptions.parse(order["options"]),
            Path(order["out"]),
            None if order["start"] is None else Path(order["start"]),
            Path(order["activations"]),
        )
    except ScrubjayError as error:
        sys.exit(" ".join(str(error).splitlines()))
    except KeyboardInterrupt:
        sys.exit(130)


def _watch() -> None:
    while os.read(0, 1):  # not through sys.stdin: a thread that holds its lock cannot be ended at exit
        pass
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


if __name__ == "__main__":
    main()
