"""Requests about uploads and jobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from scrubjay.client.call import Call, Part, answer_of, file_part, nothing, raw
from scrubjay.errors import DataError
from scrubjay.service.schemas.jobs import JobList, JobRecord, JobRequest
from scrubjay.service.schemas.uploads import CheckAnswer

Kind = Literal["learn", "backfill", "export", "forget"]


def upload(photos: str | Path) -> Call[CheckAnswer]:
    """Send images to learn from, and check them; nothing is learned yet.

    Args:
        photos: a zip file, or a folder with one sub-folder for each class.

    Raises:
        DataError: there is no such file or folder, or the folder holds no file.
    """
    path = Path(photos)
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.is_file() and not each.name.startswith("."))
        if not files:
            raise DataError(f"{path}: the folder holds no file; give one with a sub-folder of images for each class.")
        parts = tuple(Part("images", each, each.relative_to(path).as_posix()) for each in files)
    else:
        parts = (file_part("archive", path),)
    return Call("POST", "/v1/uploads", answer_of(CheckAnswer), parts=parts, repeatable=False, slow=True)


def check(upload: str) -> Call[CheckAnswer]:
    """What is in an upload."""
    return Call("GET", "/v1/uploads/{upload}", answer_of(CheckAnswer), {"upload": upload}, slow=True)


def remove_upload(upload: str) -> Call[None]:
    """Remove an upload."""
    return Call("DELETE", "/v1/uploads/{upload}", nothing, {"upload": upload}, repeatable=False)


def upload_image(upload: str, name: str) -> Call[bytes]:
    """An image of an upload as the content of a JPEG file.

    Args:
        upload: identity of the upload.
        name: name of the image inside it, such as `apple/1.jpg`.
    """
    return Call("GET", "/v1/uploads/{upload}/images/{name}", raw, {"upload": upload, "name": name})


def start_job(
    kind: Kind,
    *,
    upload: str | None = None,
    method: str | None = None,
    add: bool | None = None,
    leave_out: Sequence[str] = (),
    generation: str | None = None,
    classes: Sequence[str] = (),
    items: Sequence[str] = (),
) -> Call[JobRecord]:
    """Start work that the service does in a process of its own.

    Args:
        kind: learn, backfill, export or forget.
        upload: learn: identity of an upload.
        method: learn: name of a method; None for that of the catalogue.
        add: learn: whether to add the images to the gallery as well; None: yes.
        leave_out: learn: names of images in the upload that are not used.
        generation: export: name of the generation; None for the serving one.
        classes: forget: names of classes.
        items: forget: ids of items.
    """
    given = {
        "upload": upload,
        "method": method,
        "add": add,
        "leave_out": list(leave_out) or None,
        "generation": generation,
        "classes": list(classes) or None,
        "items": list(items) or None,
    }
    # A job is refused with fields that another kind of job has, so what is not given is not sent.
    body = JobRequest(kind=kind, **{name: value for name, value in given.items() if value is not None})
    return Call("POST", "/v1/jobs", answer_of(JobRecord), body=body, repeatable=False)


def jobs() -> Call[JobList]:
    """All jobs, the newest first."""
    return Call("GET", "/v1/jobs", answer_of(JobList))


def job(id: str) -> Call[JobRecord]:
    """A job and how far it is."""
    return Call("GET", "/v1/jobs/{id}", answer_of(JobRecord), {"id": id})


def cancel_job(id: str) -> Call[JobRecord]:
    """Ask a job to end; what it has finished stays."""
    return Call("POST", "/v1/jobs/{id}/cancel", answer_of(JobRecord), {"id": id})


def job_events(id: str) -> Call[JobRecord]:
    """The stream of a job's progress; the clients read it with `job_progress`."""
    return Call("GET", "/v1/jobs/{id}/events", answer_of(JobRecord), {"id": id})
