"""The jobs of a catalogue on disk: one record each, which only the holder of the job's lock changes.

    shop/jobs/<id>.json     the record, replaced atomically
    shop/jobs/<id>.lock     held by the process that works on the job, however that ends
    shop/jobs/<id>.cancel   exists as soon as somebody asked to cancel the job
    shop/jobs/<id>.log      what the process printed

A record that says "running" while nobody holds its lock belongs to a process that died.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from scrubjay.errors import StorageError
from scrubjay.io.atomic import write_file
from scrubjay.io.locking import try_lock
from scrubjay.service.schemas.jobs import JobRecord, JobRequest

KEPT = 200
"""Number of newest jobs whose records are kept."""
FINISHED = frozenset({"done", "failed", "cancelled"})
"""States that no job leaves."""
_ID = re.compile(r"[0-9a-f]{16}")


class Job(BaseModel):
    """What is on disk about a job.

    Attributes:
        request: what was asked for.
        record: what callers see of it.
        notes: what the work has to know when it is resumed.
        deaths: number of times that its process died without a word.
    """

    model_config = ConfigDict(frozen=True)

    request: JobRequest
    record: JobRecord
    notes: Mapping[str, Any] = {}
    deaths: int = 0

    @property
    def id(self) -> str:
        """Identity of the job."""
        return self.record.id

    @property
    def finished(self) -> bool:
        """Whether its state will not change any more."""
        return self.record.state in FINISHED

    def changed(self, **values: Any) -> Job:
        """The job with other values in its record."""
        return self.model_copy(update={"record": self.record.model_copy(update=values)})

    def ended(self, state: str, **values: Any) -> Job:
        """The job in a state that it does not leave."""
        return self.changed(state=state, ended=now(), step=None, done=None, total=None, **values)


class JobStore:
    """The records of all jobs of a catalogue; any number of processes may use it.

    Args:
        folder: folder of the catalogue.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "jobs"

    def create(self, request: JobRequest) -> Job:
        """Write the record of a new job, which waits, and delete the oldest finished ones.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        record = JobRecord(
            id=secrets.token_hex(8),
            kind=request.kind,
            state="waiting",
            created=now(),
            started=None,
            ended=None,
            step=None,
            done=None,
            total=None,
            result=None,
            problem=None,
        )
        job = Job(request=request, record=record)
        self.put(job)
        for old in self.all()[KEPT:]:
            if old.finished:
                self._delete(old.id)
        return job

    def put(self, job: Job) -> None:
        """Replace the record of a job; only the holder of its lock may."""
        write_file(self._path(job.id, "json"), job.model_dump_json(indent=1).encode())

    def get(self, name: str) -> Job | None:
        """A job; None where there is none with this identity.

        Raises:
            StorageError: the record is damaged.
        """
        if not _ID.fullmatch(name):
            return None
        path = self._path(name, "json")
        try:
            return Job.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            reason = " ".join(str(error).split())
            raise StorageError(f"{path}: damaged ({reason}): delete it and ask for the work again.") from None

    def all(self) -> list[Job]:
        """All jobs, the newest first."""
        names = [path.stem for path in self.folder.glob("*.json")]
        jobs = [job for job in map(self.get, names) if job is not None]
        return sorted(jobs, key=lambda job: (job.record.created, job.id), reverse=True)

    def used_uploads(self) -> set[str]:
        """Identities of the uploads that jobs which have not ended are to learn."""
        return {job.request.upload for job in self.all() if not job.finished and job.request.upload is not None}

    def seen(self, job: Job) -> JobRecord:
        """What callers see of a job: one that runs without a living process was interrupted."""
        if job.record.state == "running":
            lock = self.lock(job.id)
            if lock is not None:
                lock.close()
                job = self.get(job.id) or job  # it may have ended between the two
                if job.record.state == "running":
                    return job.record.model_copy(update={"state": "interrupted"})
        return job.record

    def lock(self, name: str) -> IO[str] | None:
        """Take the lock of a job; None where a living process holds it."""
        return try_lock(self._path(name, "lock"))

    def cancel(self, name: str) -> None:
        """Ask for a job to be cancelled."""
        write_file(self._path(name, "cancel"), b"")

    def is_cancelled(self, name: str) -> bool:
        """Whether somebody asked to cancel a job."""
        return self._path(name, "cancel").exists()

    def log(self, name: str) -> Path:
        """The file to which the process of a job prints."""
        return self._path(name, "log")

    def _delete(self, name: str) -> None:
        for suffix in ("json", "cancel", "log", "lock"):
            self._path(name, suffix).unlink(missing_ok=True)

    def _path(self, name: str, suffix: str) -> Path:
        return self.folder / f"{name}.{suffix}"


def now() -> str:
    """The time, ISO 8601, UTC, to the microsecond, so that records sort by it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
