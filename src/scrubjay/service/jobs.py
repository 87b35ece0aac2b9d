"""Starts jobs as processes of their own, and starts them again after their process or the service ended.

Any number of service processes run a `JobRunner` over the same catalogue. Whoever takes a job's lock starts its process
and hands the lock over: an open file that the process inherits. So exactly one process works on a job, and when that
process ends in any way, the lock is free and its record tells whether there is anything left to do.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from scrubjay.errors import ScrubjayError
from scrubjay.io.locking import try_lock
from scrubjay.service.job_records import Job, JobStore, now
from scrubjay.service.schemas.jobs import JobRequest
from scrubjay.service.uploads import Uploads

LANES = {"learn": "writers", "forget": "writers", "backfill": "backfill", "export": "export"}
"""Jobs of one lane run one after the other: learning and forgetting write to the catalogue, and only one may."""
DEATHS = 3
"""Number of times that the process of a job may die without a word before the job has failed."""
PAUSE = 0.5
"""Seconds between two looks at the records."""
GRACE = 10.0
"""Seconds that a job has, when the service ends, to save what it can go on from."""
CLEANS = 600.0
"""Seconds between two deletions of old uploads."""
logger = logging.getLogger(__name__)


class JobRunner:
    """Runs the jobs of a catalogue, in a thread of the service.

    Args:
        folder: folder of the catalogue.
    """

    def __init__(self, folder: Path) -> None:
        self.store = JobStore(folder)
        self._catalogue = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._clean = 0.0
        self._wake, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Start the thread; jobs that were interrupted go on."""
        self._thread.start()

    def stop(self, grace: float = GRACE) -> None:
        """Interrupt the jobs that this process started, and wait until they have saved what they go on from.

        Args:
            grace: seconds after which they are killed.
        """
        self._end.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        for process in self._processes.values():
            process.send_signal(signal.SIGINT)
        for name, process in self._processes.items():
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                logger.warning("job %s did not end in %g s and is killed; it goes on after the restart", name, grace)
                process.kill()
                process.wait()

    def submit(self, request: JobRequest) -> Job:
        """Write a new job to disk; it starts as soon as its lane is free.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        job = self.store.create(request)
        self._wake.set()
        return job

    def cancel(self, job: Job) -> Job:
        """Cancel a job that is not finished: one that runs is interrupted, and killed where that does not end it."""
        self.store.cancel(job.id)
        lock = self.store.lock(job.id)
        if lock is not None:
            with lock:
                self._settle(self.store.get(job.id) or job)
        return self.store.get(job.id) or job

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self.step()
            except (ScrubjayError, OSError) as error:
                logger.warning("jobs: %s", error)  # for instance a full disk, which may pass
            self._wake.wait(PAUSE)
            self._wake.clear()

    def step(self) -> None:
        """Record which processes have ended, and start the oldest job of each lane that is free."""
        for name in [name for name, process in self._processes.items() if process.poll() is not None]:
            del self._processes[name]
        if time.monotonic() >= self._clean:
            self._clean = time.monotonic() + CLEANS
            Uploads(self._catalogue).expire(self.store.used_uploads())
        turn = try_lock(self.store.folder / "start.lock")
        if turn is None:
            return  # another process of the service is doing the same
        with turn:
            waiting: list[tuple[Job, IO[str]]] = []
            try:
                self._start(waiting)
            finally:
                for _, lock in waiting:
                    lock.close()

    def _start(self, waiting: list[tuple[Job, IO[str]]]) -> None:
        """Start jobs; fills `waiting` with those that have no process, and their locks."""
        busy: set[str] = set()
        for job in reversed(self.store.all()):
            if job.finished:
                continue
            lock = self.store.lock(job.id)
            if lock is None:
                busy.add(LANES[job.request.kind])
            else:
                waiting.append((job, lock))
        for job, lock in waiting:
            settled = self._settle(self.store.get(job.id) or job)
            if not settled.finished and LANES[job.request.kind] not in busy:
                busy.add(LANES[job.request.kind])
                self._spawn(settled, lock)

    def _settle(self, job: Job) -> Job:
        """The job, whose lock is held here, after what its record says was compared with the fact that nobody works."""
        settled = job
        if job.finished:
            return job
        if self.store.is_cancelled(job.id):
            settled = job.ended("cancelled")
        elif job.record.state == "running":
            settled = job.changed(state="interrupted", step=None).model_copy(update={"deaths": job.deaths + 1})
            if settled.deaths >= DEATHS:
                problem = (
                    f"its process was killed {settled.deaths} times, perhaps because the memory was full; what it "
                    "saved stays: ask for the same work again to go on."
                )
                settled = settled.ended("failed", problem=problem)
        if settled is not job:
            self.store.put(settled)
        return settled

    def _spawn(self, job: Job, lock: IO[str]) -> None:
        """Start the process of a job, which inherits the lock."""
        started = job.record.started or now()
        self.store.put(job.changed(state="running", started=started, step="starting"))
        command = [sys.executable, "-m", "scrubjay.service.job_process", str(self._catalogue), job.id]
        command += ["--lock", str(lock.fileno()), "--parent", str(os.getpid())]
        with self.store.log(job.id).open("ab") as log:
            self._processes[job.id] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno()],
                start_new_session=True,  # Ctrl-C in the terminal of the service is not for the job
            )
