from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from scrubjay.errors import DataError
from scrubjay.io.locking import locked
from scrubjay.progress import track
from scrubjay.service import job_process
from scrubjay.service.job_process import Reporter, run
from scrubjay.service.job_records import Job, JobStore
from scrubjay.service.schemas.jobs import JobRequest


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path)


def worked(store: JobStore, work: job_process.Work, job: Job | None = None) -> Job:
    job = job or store.create(JobRequest(kind="backfill"))
    run(store.folder.parent, store, job, work)
    ended = store.get(job.id)
    assert ended is not None
    return ended


def test_the_result_is_on_disk(store: JobStore) -> None:
    job = worked(store, lambda folder, _: {"done": len(list(folder.glob("jobs/*.json")))})
    assert (job.record.state, job.record.result, job.record.step) == ("done", {"done": 1}, None)
    assert job.record.ended is not None


def test_progress_is_on_disk_while_it_works(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_process, "WRITES", 0.0)
    seen = []

    def work(_: Path, reporter: Reporter) -> dict[str, Any]:
        reporter.step("looking")
        for _item in track("abc", "embed 3 items", 3):
            (job,) = store.all()
            seen.append((job.record.state, job.record.step, job.record.done, job.record.total))
        reporter.note(halfway=True)
        return {}

    job = worked(store, work)
    assert seen == [("running", "embed 3 items", done, 3) for done in range(3)]
    assert job.notes == {"halfway": True}


def test_an_error_of_the_user_is_one_line(store: JobStore) -> None:
    def work(*_: object) -> dict[str, Any]:
        raise DataError("class 'fig' has no image;\nadd some.")

    job = worked(store, work)
    assert (job.record.state, job.record.problem) == ("failed", "class 'fig' has no image; add some.")


def test_an_error_of_the_program_names_the_log(store: JobStore, capfd: pytest.CaptureFixture[str]) -> None:
    def work(*_: object) -> dict[str, Any]:
        raise ZeroDivisionError

    job = worked(store, work)
    assert job.record.state == "failed"
    assert f"ZeroDivisionError); its log tells more: {job.id}.log" in str(job.record.problem)
    assert "Traceback" in capfd.readouterr().err


def test_an_interrupt_is_a_cancellation_only_where_somebody_asked_for_one(store: JobStore) -> None:
    def work(*_: object) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not interrupted")

    job = worked(store, work)
    assert (job.record.state, job.record.ended) == ("interrupted", None)
    store.cancel(job.id)
    assert worked(store, work, job).record.state == "cancelled"


def test_a_job_waits_for_whoever_writes(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_process, "WAIT", 0.0)
    states = []

    def work(folder: Path, _: Reporter) -> dict[str, Any]:
        states.append(store.all()[0].record.state)
        if len(states) < 3:
            with locked(folder), locked(folder):
                pass
        return {}

    assert worked(store, work).record.state == "done"
    assert states == ["waiting", "waiting", "waiting"]
