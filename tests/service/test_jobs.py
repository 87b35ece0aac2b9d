from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scrubjay.catalogue import Catalogue
from scrubjay.errors import StorageError
from scrubjay.io.locking import locked
from scrubjay.service import job_records
from scrubjay.service.job_records import Job, JobStore
from scrubjay.service.jobs import DEATHS, JobRunner
from scrubjay.service.schemas.jobs import JobRequest
from scrubjay.service.uploads import Uploads
from shops import copied, metric_shop
from tiny import paint
from waiting import until

BACKFILL = JobRequest(kind="backfill")


@contextmanager
def running(folder: Path) -> Iterator[JobRunner]:
    runner = JobRunner(folder)
    runner.start()
    try:
        yield runner
    finally:
        runner.stop()


def state(store: JobStore, job: Job) -> str:
    found = store.get(job.id)
    assert found is not None
    assert found.record.state != "failed" or found.record.problem, store.log(job.id).read_text()
    return store.seen(found).state


def is_alive(store: JobStore, job: Job) -> bool:
    """Whether a process works on a job."""
    lock = store.lock(job.id)
    if lock is not None:
        lock.close()
    return lock is None


def finished(store: JobStore, job: Job) -> Job:
    until(lambda: state(store, job) in job_records.FINISHED)
    found = store.get(job.id)
    assert found is not None
    return found


def upload(shop: Catalogue, tmp_path: Path, *names: str, each: int = 6) -> str:
    """Sends painted images of some classes."""
    files = [
        (
            f"{name}/{seed}.png",
            io.BytesIO(paint(tmp_path / "sent" / name / f"{seed}.png", number, 500 + seed).read_bytes()),
        )
        for number, name in enumerate(names, 5)
        for seed in range(each)
    ]
    return Uploads(shop.folder).from_files(files)[0].id


def test_records_are_listed_newest_first_and_the_oldest_finished_ones_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_records, "KEPT", 2)
    store = JobStore(tmp_path)
    first = store.create(BACKFILL)
    second = store.create(BACKFILL)
    store.put(second.ended("done"))
    third, fourth = store.create(BACKFILL), store.create(BACKFILL)
    assert [job.id for job in store.all()] == [fourth.id, third.id, first.id], "what waits stays"
    assert store.get(second.id) is None


def test_an_identity_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "catalogue.json").write_text("{}")
    assert JobStore(tmp_path).get("../catalogue") is None


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = store.create(BACKFILL)
    (store.folder / f"{job.id}.json").write_text("{")
    with pytest.raises(StorageError, match=rf"{job.id}.json: damaged"):
        store.get(job.id)


def test_a_job_that_waits_is_cancelled_at_once(tmp_path: Path) -> None:
    runner = JobRunner(tmp_path)
    assert runner.cancel(runner.submit(BACKFILL)).record.state == "cancelled"
    runner.step()
    assert not list(tmp_path.glob("jobs/*.log"))


def test_a_record_without_a_process_is_interrupted_and_fails_after_several_deaths(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = store.create(BACKFILL)
    store.put(job.changed(state="running"))
    assert state(store, job) == "interrupted"
    store.put(job.changed(state="running").model_copy(update={"deaths": DEATHS - 1}))
    JobRunner(tmp_path).step()
    died = store.get(job.id)
    assert died is not None
    assert died.record.state == "failed"
    assert f"killed {DEATHS} times" in str(died.record.problem)


def test_an_upload_is_learned_and_added(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    name = upload(shop, tmp_path, "lemon", "lime")
    with running(shop.folder) as runner:
        asked = JobRequest(kind="learn", upload=name, leave_out=["lime/0.png"])
        job = finished(runner.store, runner.submit(asked))
    assert job.record.state == "done", job.record.problem
    result = job.record.result or {}
    assert result["generation"] == "g2"
    assert result["classes"] == ["lemon", "lime"]
    assert result["added"] == 11
    assert Uploads(shop.folder).get(name) is None
    again = Catalogue(shop.folder)
    assert again.lineage.get("g2").classes[-2:] == ("lemon", "lime")
    assert again.search(tmp_path / "sent/lemon/1.png", 1)[0].label == "lemon"
    assert not [finding for finding in again.upkeep.examine() if finding.kind == "error"]


@pytest.mark.slow
def test_jobs_of_different_lanes_run_at_the_same_time_and_those_of_one_after_the_other(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    with locked(shop.folder), running(shop.folder) as runner:
        forget, second = (runner.submit(JobRequest(kind="forget", classes=[name])) for name in ("fig", "kiwi"))
        backfill = runner.submit(BACKFILL)
        assert finished(runner.store, backfill).record.state == "done"
        until(lambda: state(runner.store, forget) == "waiting" and is_alive(runner.store, forget))
        assert state(runner.store, second) == "waiting"
        assert runner.cancel(second).record.state == "cancelled"
        assert runner.cancel(forget).record.state == "waiting", "its process ends itself"
        assert finished(runner.store, forget).record.state == "cancelled"


@pytest.mark.slow
def test_a_class_is_forgotten_with_a_report(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    with running(shop.folder) as runner:
        job = finished(runner.store, runner.submit(JobRequest(kind="forget", classes=["fig"])))
        result = job.record.result or {}
        assert result["removed"]["items of the gallery"] == 5
        assert result["generations"] == {"g1": "g2"}
        assert any("figures, reports" in line for line in result["report"])
        again = finished(runner.store, runner.submit(JobRequest(kind="forget", classes=["fig"])))
    assert again.record.state == "failed"
    assert "never learned or added" in str(again.record.problem)


@pytest.mark.slow
def test_learning_that_is_interrupted_with_the_service_goes_on_after_the_restart(tmp_path: Path) -> None:
    shop = copied(tmp_path)
    options = json.loads((shop.folder / "catalogue.json").read_text())
    options["training"]["increment_epochs"] = 3000
    (shop.folder / "catalogue.json").write_text(json.dumps(options))
    with running(shop.folder) as runner:
        name = upload(shop, tmp_path, "lemon", "lime")
        job = runner.submit(JobRequest(kind="learn", upload=name, method="mmd"))
        until(lambda: _is_training(runner))
    stopped = runner.store.all()[0]
    assert (stopped.record.state, stopped.deaths) == ("interrupted", 0)
    assert Catalogue(shop.folder).interrupted()
    with running(shop.folder) as runner:
        until(lambda: _is_training(runner))
        assert runner.cancel(job).record.state == "running", "its process ends itself"
        assert finished(runner.store, job).record.state == "cancelled"
    assert Uploads(shop.folder).get(name) is not None, "the images can be learned after all"


def _is_training(runner: JobRunner) -> bool:
    record = runner.store.all()[0].record
    return "learn session" in str(record.step) and bool(record.done)


@pytest.mark.slow
def test_a_job_whose_process_is_killed_goes_on(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    name = upload(shop, tmp_path, "lemon", "lime")
    with running(shop.folder) as runner:
        job = runner.submit(JobRequest(kind="learn", upload=name))
        until(lambda: bool(runner._processes))
        for process in runner._processes.values():
            process.kill()
        ended = finished(runner.store, job)
    assert (ended.record.state, ended.deaths) == ("done", 1)


def _serve(folder: str) -> None:
    runner = JobRunner(Path(folder))
    runner.start()
    time.sleep(3600)


@pytest.mark.slow
def test_a_job_ends_with_a_service_that_is_killed_and_runs_once_with_several(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    spawn = multiprocessing.get_context("spawn")
    store = JobStore(shop.folder)
    with locked(shop.folder):
        job = store.create(JobRequest(kind="learn", upload=upload(shop, tmp_path, "lemon", "lime")))
        services = [spawn.Process(target=_serve, args=(str(shop.folder),)) for _ in range(2)]
        for service in services:
            service.start()
        until(lambda: state(store, job) == "waiting" and is_alive(store, job))
        for service in services:
            os.kill(service.pid or 0, signal.SIGKILL)
            service.join()
        until(lambda: state(store, job) == "interrupted")
    log = store.log(job.id).read_text()
    assert "Traceback" not in log
    with running(shop.folder) as runner:
        assert finished(runner.store, job).record.state == "done"
    assert len(Catalogue(shop.folder).lineage.generations()) == 3
