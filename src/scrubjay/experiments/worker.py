"""One run in a process of its own. It saves and ends when its parent process asks for it, or is gone.

The task comes as one line of JSON on stdin, which then stays open: end of file is the interrupt. So a worker never
outlives its parent, however that ends, and gets one interrupt where a terminal would send it two.
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
    """A worker process, as its parent sees it."""

    def __init__(
        self, options: experiment.ExperimentOptions, out: Path, start: Path | None, activations: Path, threads: int
    ) -> None:
        """Start the process.

        Args:
            options: as in `experiments.run.run`, like `out`, `start` and `activations`.
            out: folder of the run.
            start: folder of the run whose initial session is copied, or None.
            activations: folder of shared activations.
            threads: number of threads that the process computes with.
        """
        task = {
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
        with suppress(BrokenPipeError):  # the process died at once: its log says why
            self._pipe.write(json.dumps(task).encode() + b"\n")
            self._pipe.flush()

    @property
    def _pipe(self) -> Any:
        return self._process.stdin

    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def interrupt(self) -> None:
        """Ask the process to save and to end."""
        with suppress(BrokenPipeError):
            self._pipe.close()

    def end(self) -> tuple[float, str | None]:
        """Wait for the process to end.

        Returns:
            The seconds since its start, and what went wrong in one line, or None.
        """
        code = self._process.wait()
        self.interrupt()
        seconds = time.perf_counter() - self._began
        if code == 0:
            return seconds, None
        if code < 0:
            return seconds, f"ended by signal {-code}; if memory was short, give fewer --jobs"
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return seconds, lines[-1] if lines else f"exit code {code}"


def main() -> None:
    """Read a task from stdin and run it; what the worker process executes."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the parent runs in the background
    try:
        line = sys.stdin.readline()
        threading.Thread(target=_watch, daemon=True).start()
        task = json.loads(line)
        experiment.run(
            experiment.ExperimentOptions.parse(task["options"]),
            Path(task["out"]),
            None if task["start"] is None else Path(task["start"]),
            Path(task["activations"]),
        )
    except ScrubjayError as error:
        sys.exit(" ".join(str(error).splitlines()))
    except KeyboardInterrupt:
        sys.exit(130)


def _watch() -> None:
    """Interrupt the main thread when stdin ends."""
    while os.read(0, 1):  # not through sys.stdin: a thread that holds its lock cannot be ended at exit
        pass
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


if __name__ == "__main__":
    main()
