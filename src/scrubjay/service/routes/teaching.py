"""Teaching a class from a few images, and forgetting one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, File, Form, Path, UploadFile

from scrubjay.errors import ImageError, InUseError
from scrubjay.service.dependencies import Admin, Opened, Writer
from scrubjay.service.images import SentImage, sent_file
from scrubjay.service.job_request import check_request
from scrubjay.service.opened import OpenCatalogue
from scrubjay.service.problems import ProblemError, image_refused, not_found, problems
from scrubjay.service.schemas.classes import Taught
from scrubjay.service.schemas.items import Refused
from scrubjay.service.schemas.jobs import JobRecord, JobRequest
from scrubjay.service.teaching import Lesson, teach

router = APIRouter(prefix="/v1", tags=["classes"])

LIMIT = 1000
"""Largest number of images that a class is taught from at once; more are learned by a job."""
PAUSE = 0.5
"""Seconds between two attempts while somebody else writes to the catalogue."""
ClassName = Annotated[str, Path(min_length=1, max_length=200, description="Name of the class; it may hold slashes.")]


@router.post("/classes/{name:path}/images", status_code=201, dependencies=Writer, responses=problems(404, 409))
async def teach_class(
    opened: Opened,
    name: ClassName,
    images: Annotated[list[UploadFile] | None, File(max_length=LIMIT, description="Image files of the class.")] = None,
    queries: Annotated[
        list[str] | None, Form(max_length=LIMIT, description="Content hashes of unknown queries that show the class.")
    ] = None,
) -> Taught:
    """Teach a class from one or more images. It is found as soon as the answer is there, if the gate passes."""
    if name != name.strip() or not name.isprintable():
        raise _invalid("path.name: give a name of printable characters, without spaces around it")
    limit = opened.options.image_mb * 2**20
    sent = [await sent_file(image, limit) for image in images or ()]
    for query in queries or ():
        data = await opened.run(opened.unknown.read, query)
        if data is None:
            raise not_found(f"No image of the query {query[:100]!r} is kept.")
        sent.append(SentImage(query, data))
    if not sent:
        raise _invalid("body: send at least one image or query")
    lessons, refused = await _lessons(opened, sent)
    taught = await _taught(opened, name, lessons, refused)
    for query in queries or ():
        await opened.run(opened.unknown.discard, query)
    return taught


@router.delete("/classes/{name:path}", status_code=202, dependencies=Admin, responses=problems(404, 409))
async def forget_class(opened: Opened, name: ClassName) -> JobRecord:
    """Forget a class by a job: its items, its images, and what was learned from them."""
    request = JobRequest(kind="forget", classes=[name])
    await opened.run(check_request, opened.catalogue, opened.uploads, opened.jobs.store, request)
    return (await opened.run(opened.jobs.submit, request)).record


async def _lessons(opened: OpenCatalogue, sent: Sequence[SentImage]) -> tuple[list[Lesson], list[Refused]]:
    """The images that can be used, and those that cannot with the reason.

    Raises:
        ProblemError: none can be used (422).
    """

    async def one(image: SentImage) -> Lesson | Refused:
        try:
            await opened.decoder.inspect(image.data, image.declared)
        except ImageError as error:
            return Refused(name=image.name, reason=str(error))
        return Lesson(image.data)

    found = await asyncio.gather(*(one(image) for image in sent))
    lessons = [each for each in found if isinstance(each, Lesson)]
    refused = [each for each in found if isinstance(each, Refused)]
    if not lessons:
        raise image_refused(f"{refused[0].name}: {refused[0].reason}")
    return lessons, refused


async def _taught(opened: OpenCatalogue, name: str, lessons: Sequence[Lesson], refused: Sequence[Refused]) -> Taught:
    """Teach as soon as nobody else writes to the catalogue, if that is within the time of a request."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + opened.options.request_seconds
    while True:
        try:
            return await opened.background.run(teach, name, lessons, refused, opened.preload)
        except InUseError:
            if loop.time() > deadline or opened.stopping.is_set():
                raise
        await asyncio.sleep(PAUSE)


def _invalid(message: str) -> ProblemError:
    return ProblemError(422, "invalid-request", "The request is not as required", f"{message}.")
