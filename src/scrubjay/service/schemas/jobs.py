"""Bodies about jobs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from scrubjay.service.schemas.base import Body, Record


class JobRequest(Body):
    """Work to be done by a process of its own."""

    kind: Literal["learn", "backfill", "export", "forget"]
    upload: str | None = None
    """learn: identity of an upload."""
    method: str | None = None
    """learn: name of a method; None for that of the catalogue."""
    add: bool = True
    """learn: add the images to the gallery as well."""
    leave_out: list[str] = Field(default_factory=list)
    """learn: names of images in the upload that are not used."""
    generation: str | None = None
    """export: name of the generation; None for the serving one."""
    classes: list[str] = Field(default_factory=list)
    """forget: names of classes."""
    items: list[str] = Field(default_factory=list)
    """forget: ids of items."""


class JobRecord(Record):
    """A job and how far it is."""

    id: str
    kind: str
    state: Literal["waiting", "running", "done", "failed", "cancelled", "interrupted"]
    """interrupted: the service ended while it ran; it goes on by itself after the restart."""
    created: str
    started: str | None
    ended: str | None
    step: str | None
    """What it is doing, in words."""
    done: int | None
    total: int | None
    result: dict[str, Any] | None
    """What it made, by kind: learn {generation, classes, images, added}, backfill {done, remaining}, export {path},
    forget {removed, generations, report}: entries removed by place, the generations made, by those that they replace,
    and what was not removed and why."""
    problem: str | None
    """Why it failed: one line."""


class JobList(Record):
    """All jobs, the newest first."""

    jobs: list[JobRecord]
