"""Jobs, which are done by processes of their own, and uploads, which they learn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, File, Path, Response, UploadFile
from fastapi.responses import StreamingResponse

from scrubjay.errors import DataError, ImageError
from scrubjay.service.checking import checked_upload, unreadable
from scrubjay.service.dependencies import Admin, Opened, Reader, Writer
from scrubjay.service.images import JPEG
from scrubjay.service.job_records import FINISHED
from scrubjay.service.job_request import check_request
from scrubjay.service.opened import OpenCatalogue
from scrubjay.service.problems import ProblemError, conflict, image_refused, not_found, problems
from scrubjay.service.schemas.jobs import JobList, JobRecord, JobRequest
from scrubjay.service.schemas.uploads import CheckAnswer
from scrubjay.service.uploads import Upload, read_check

router = APIRouter(prefix="/v1", tags=["jobs"])

PAUSE = 0.5
"""Seconds between two looks at a job whose progress is sent."""
ALIVE = 15.0
"""Seconds after which a stream without news sends a comment, so that nobody takes it for dead."""
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `progress` whenever the job has changed, and `end`; the data of each is a JobRecord.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
JobId = Annotated[str, Path(max_length=100, description="Identity of the job.")]
UploadId = Annotated[str, Path(max_length=100, description="Identity of the upload.")]


@router.post("/jobs", status_code=202, dependencies=Admin, responses=problems(404, 409))
async def create_job(opened: Opened, request: JobRequest) -> JobRecord:
    """Ask for work that takes longer than a request: learn, backfill, export or forget."""
    await opened.run(check_request, opened.catalogue, opened.uploads, opened.jobs.store, request)
    return (await opened.run(opened.jobs.submit, request)).record


@router.get("/jobs", dependencies=Reader)
async def list_jobs(opened: Opened) -> JobList:
    """All jobs, the newest first."""
    store = opened.jobs.store
    return JobList(jobs=await opened.run(lambda: [store.seen(job) for job in store.all()]))


@router.get("/jobs/{id}", dependencies=Reader, responses=problems(404))
async def get_job(opened: Opened, id: JobId) -> JobRecord:
    """A job and how far it is."""
    return await _record(opened, id)


@router.post("/jobs/{id}/cancel", status_code=202, dependencies=Admin, responses=problems(404, 409))
async def cancel_job(opened: Opened, id: JobId) -> JobRecord:
    """Cancel a job. What it has saved stays, and the same work asked for again goes on from there."""
    job = await opened.run(opened.jobs.store.get, id)
    if job is None:
        raise not_found(f"There is no job {id[:100]!r}.")
    if job.finished:
        raise conflict(f"The job has ended already: {job.record.state}.")
    return (await opened.run(opened.jobs.cancel, job)).record


@router.get("/jobs/{id}/events", response_class=Response, dependencies=Reader, responses={**problems(404), **_EVENTS})
async def job_events(opened: Opened, id: JobId) -> StreamingResponse:
    """The progress of a job as server-sent events, until it ends. When the service ends, ask again after its start."""
    await _record(opened, id)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(opened, id), media_type="text/event-stream", headers=headers)


@router.post("/uploads", status_code=201, dependencies=Writer, responses=problems(409))
async def create_upload(
    opened: Opened,
    archive: Annotated[
        UploadFile | None, File(description="A zip file with a folder of images for each class.")
    ] = None,
    images: Annotated[
        list[UploadFile] | None, File(description="Images whose file names are paths, such as apple/1.jpg.")
    ] = None,
) -> CheckAnswer:
    """Send images to be learned, and find out what is in them before anything is learned."""
    uploads = opened.uploads
    if (archive is None) == (not images):
        raise ProblemError(
            422, "invalid-request", "The request is not as required", "body: send either archive or images."
        )
    if archive is not None:
        upload, left_out = await opened.run(uploads.from_zip, archive.file)
    else:
        files: list[tuple[str, BinaryIO]] = [(image.filename or "", image.file) for image in images or ()]
        upload, left_out = await opened.run(uploads.from_files, files)
    try:
        refused = await unreadable(opened, upload)
        return await opened.background.run(checked_upload, upload, left_out, refused)
    except DataError:
        await opened.run(upload.remove)
        raise


@router.get("/uploads/{upload}", dependencies=Reader, responses=problems(404))
async def get_upload(opened: Opened, upload: UploadId) -> CheckAnswer:
    """What the check of an upload found."""
    found = await opened.run(read_check, await _upload(opened, upload))
    if found is None:
        raise not_found(f"The upload {upload!r} was not checked to the end: send it again.")
    return found


@router.delete("/uploads/{upload}", status_code=204, dependencies=Writer, responses=problems(404, 409))
async def delete_upload(opened: Opened, upload: UploadId) -> None:
    """Delete an upload without learning it."""
    found = await _upload(opened, upload)
    if found.id in await opened.run(opened.jobs.store.used_uploads):
        raise conflict("A job is learning this upload: cancel the job first.")
    await opened.run(found.remove)


@router.get(
    "/uploads/{upload}/images/{name:path}",
    response_class=Response,
    dependencies=Reader,
    responses={**problems(404), **JPEG},
)
async def upload_image(
    opened: Opened, upload: UploadId, name: Annotated[str, Path(max_length=4000, description="Name of the image.")]
) -> Response:
    """An image of an upload as a JPEG file of at most 256 pixels, without metadata."""
    path = (await opened.run((await _upload(opened, upload)).files)).get(name)
    if path is None:
        raise not_found(f"The upload holds no image {name[:100]!r}.")
    try:
        content = await opened.decoder.reencode(await opened.run(path.read_bytes), 256)
    except ImageError as error:
        raise image_refused(f"{name}: {error}") from None
    except FileNotFoundError:
        raise not_found(f"The image {name[:100]!r} was learned or deleted.") from None
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


async def _events(opened: OpenCatalogue, name: str) -> AsyncIterator[str]:
    """Server-sent events about a job, until it or the service ends."""
    loop = asyncio.get_running_loop()
    sent, last = "", loop.time()
    while not opened.stopping.is_set():
        job = await opened.run(opened.jobs.store.get, name)
        if job is None:
            return
        record = await opened.run(opened.jobs.store.seen, job)
        data = record.model_dump_json()
        if data != sent:
            event = "end" if record.state in FINISHED else "progress"
            yield f"event: {event}\ndata: {data}\n\n"
            sent, last = data, loop.time()
            if event == "end":
                return
        elif loop.time() - last > ALIVE:
            yield ": alive\n\n"
            last = loop.time()
        try:
            await asyncio.wait_for(opened.stopping.wait(), PAUSE)
        except TimeoutError:
            continue


async def _record(opened: OpenCatalogue, name: str) -> JobRecord:
    """What callers see of a job.

    Raises:
        ProblemError: there is no such job (404).
    """
    job = await opened.run(opened.jobs.store.get, name)
    if job is None:
        raise not_found(f"There is no job {name[:100]!r}.")
    return await opened.run(opened.jobs.store.seen, job)


async def _upload(opened: OpenCatalogue, name: str) -> Upload:
    found = await opened.run(opened.uploads.get, name)
    if found is None:
        raise not_found(
            f"There is no upload {name[:100]!r}; uploads are deleted when they were learned or after a day."
        )
    return found
