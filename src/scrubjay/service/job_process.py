"""The process of a job: `python -m scrubjay.service.job_process SHOP JOB --lock FD --parent PID`.

It ends as an interrupted command line would, with what it can go on from on disk, when somebody asks to cancel the job
or when the service has ended.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scrubjay.errors import InUseError, ScrubjayError
from scrubjay.progress import shown
from scrubjay.service.job_records import Job, JobStore

NICENESS = 10
"""Jobs give way to queries."""
LOOK = 0.3
"""Seconds between two looks for a request to cancel, and for the service."""
GRACE = 30.0
"""Seconds from the interrupt after which a job that has not ended ends itself."""
WRITES = 0.5
"""Seconds between two writes of the progress."""
WAIT = 1.0
"""Seconds between two attempts while another process writes to the catalogue."""


class Reporter:
    """Writes the progress of a job to its record; a `scrubjay.progress.Display`.

    Args:
        store: the records.
        job: the job, whose lock this process holds.
    """

    def __init__(self, store: JobStore, job: Job) -> None:
        self.job = job
        self._store = store
        self._loops: list[list[Any]] = []  # description, total and count of each loop, the innermost last
        self._written = 0.0
        self._lock = threading.Lock()

    def add_task(self, description: str, *, total: int, completed: int) -> list[Any]:
        """Show a loop."""
        loop = [description, total, completed]
        with self._lock:
            self._loops.append(loop)
            self._show(at_once=True)
        return loop

    def advance(self, task: list[Any], /) -> None:
        """Count one more item."""
        with self._lock:
            task[2] += 1
            self._show()

    def remove_task(self, task: list[Any], /) -> None:
        """Stop showing a loop; what it came to stays until the next one begins."""
        with self._lock:
            self._show(at_once=True)
            self._loops = [loop for loop in self._loops if loop is not task]

    def step(self, text: str, state: str = "running") -> None:
        """Say what is being done."""
        with self._lock:
            self._put(self.job.changed(state=state, step=text, done=None, total=None))

    def note(self, **values: Any) -> None:
        """Keep something that the work has to know when it is resumed."""
        with self._lock:
            self._put(self.job.model_copy(update={"notes": {**self.job.notes, **values}}))

    def end(self, state: str, **values: Any) -> None:
        """Write how the job ended."""
        with self._lock:
            interrupted = state == "interrupted"
            self._put(self.job.changed(state=state, step=None) if interrupted else self.job.ended(state, **values))

    def _show(self, at_once: bool = False) -> None:
        if self._loops and (at_once or time.monotonic() - self._written >= WRITES):
            description, total, count = self._loops[-1]
            self._put(self.job.changed(state="running", step=description, done=count, total=total))

    def _put(self, job: Job) -> None:
        self.job = job
        self._store.put(job)
        self._written = time.monotonic()


Work = Callable[[Path, Reporter], dict[str, Any]]
"""Does the work of a job over the catalogue in a folder; returns its result."""


def run(folder: Path, store: JobStore, job: Job, work: Work) -> None:
    """Do the work of a job whose lock this process holds, and write how it ended."""
    reporter = Reporter(store, job)
    try:
        if store.is_cancelled(job.id):
            raise KeyboardInterrupt
        with shown(reporter):
            result = _when_free(folder, reporter, work)
        reporter.end("done", result=result)
    except KeyboardInterrupt:
        reporter.end("cancelled" if store.is_cancelled(job.id) else "interrupted")
    except ScrubjayError as error:
        reporter.end("failed", problem=without_path(" ".join(str(error).split()), folder))
    except Exception as error:
        traceback.print_exc()
        problem = f"an error of the program ({type(error).__name__}); its log tells more: {store.log(job.id).name}."
        reporter.end("failed", problem=problem)


def without_path(text: str, folder: Path) -> str:
    """A message without the path of the catalogue's folder, which callers of the service need not know."""
    for path in (str(folder.absolute()), str(folder)):
        text = text.replace(f"{path}/", "").replace(path, folder.name)
    return text


def _when_free(folder: Path, reporter: Reporter, work: Work) -> dict[str, Any]:
    """Do the work as soon as no other process writes to the catalogue."""
    while True:
        try:
            return work(folder, reporter)
        except InUseError:
            reporter.step("waiting for another process that writes to the catalogue", "waiting")
            time.sleep(WAIT)


def watch(store: JobStore, name: str, parent: int) -> None:
    """Interrupt this process when its job is cancelled or the service ends; end it where that is not enough."""
    while os.getppid() == parent and not store.is_cancelled(name):
        time.sleep(LOOK)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Do the work of one job."""
    parser = argparse.ArgumentParser(description="Work on a job of the service.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("job")
    parser.add_argument("--lock", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    asked = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a service in the background may ignore it
    os.set_inheritable(asked.lock, False)  # its own processes must not hold the lock after its end
    os.nice(NICENESS)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    store = JobStore(asked.folder)
    job = store.get(asked.job)
    if job is None:
        parser.error(f"there is no job {asked.job}")
    threading.Thread(target=watch, args=(store, job.id, asked.parent), name="watch", daemon=True).start()
    from scrubjay.service.job_work import WORK

    run(asked.folder, store, job, WORK[job.request.kind])


if __name__ == "__main__":
    main()
