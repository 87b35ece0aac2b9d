"""Whether a request for a job can be carried out, as far as that can be told before it begins."""

from __future__ import annotations

from collections.abc import Mapping

from scrubjay.catalogue import Catalogue
from scrubjay.methods import method
from scrubjay.service.job_records import JobStore
from scrubjay.service.problems import ProblemError, conflict, not_found
from scrubjay.service.schemas.jobs import JobRequest
from scrubjay.service.uploads import Uploads

FIELDS: Mapping[str, frozenset[str]] = {
    "learn": frozenset({"upload", "method", "add", "leave_out"}),
    "backfill": frozenset(),
    "export": frozenset({"generation"}),
    "forget": frozenset({"classes", "items"}),
}
"""The fields that each kind of job has, beside its kind."""


def check_request(catalogue: Catalogue, uploads: Uploads, store: JobStore, request: JobRequest) -> None:
    """Refuse a request that names what does not exist, or fields of another kind of job.

    Raises:
        ProblemError: it does (404, 409 or 422).
        ConfigError: there is no such method.
    """
    foreign = request.model_fields_set - FIELDS[request.kind] - {"kind"}
    if foreign:
        raise _invalid(f"body.{min(foreign)}: a job of kind {request.kind} has no such field; leave it out")
    if request.kind == "learn":
        _check_learn(uploads, store, request)
    if request.generation is not None and request.generation not in catalogue.lineage.by_name():
        raise not_found(f"There is no generation {request.generation[:100]!r}.")
    if request.kind == "forget":
        _check_forget(catalogue, request)


def _check_learn(uploads: Uploads, store: JobStore, request: JobRequest) -> None:
    if request.upload is None:
        raise _invalid("body.upload: missing; send the images with POST /v1/uploads and give its identity")
    upload = uploads.get(request.upload)
    if upload is None:
        raise not_found(f"There is no upload {request.upload[:100]!r}: it was learned or deleted; send it again.")
    if upload.id in store.used_uploads():
        raise conflict("Another job is to learn this upload already.")
    missing = set(request.leave_out) - upload.files().keys()
    if missing:
        raise _invalid(f"body.leave_out: the upload holds no image {min(missing)[:100]!r}")
    if request.method is not None:
        method(request.method)


def _check_forget(catalogue: Catalogue, request: JobRequest) -> None:
    """Items are named by their ids only: a name of a file would be another way into the file system."""
    if not (request.classes or request.items):
        raise _invalid("body.classes: missing; name classes or items to forget")
    found = {item.id for item in catalogue.gallery.store.items(request.items)} if request.items else set[str]()
    missing = set(request.items) - found
    if missing:
        raise not_found(f"There is no item {min(missing)[:100]!r}.")


def _invalid(message: str) -> ProblemError:
    return ProblemError(422, "invalid-request", "The request is not as required", f"{message}.")
