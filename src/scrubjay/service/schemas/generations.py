"""Bodies about generations, their gate, promotion and rollback."""

from __future__ import annotations

from typing import Any

from scrubjay.service.schemas.base import Body, Record


class GenerationRecord(Record):
    """One generation of the model."""

    name: str
    parent: str | None
    created: str
    method: str
    classes: int
    """Number of classes learned so far."""
    new_classes: list[str]
    extended_classes: list[str]
    images: int | None
    """Number of training images of its session."""
    seconds: float | None
    serving: bool
    measured: dict[str, dict[str, Any] | None]
    """Retrieval figures of held-out images of the new classes, by this generation and by its parent."""
    coverage: float
    """Share of the items that have a vector of this generation's space."""
    retained: float | None = None
    """Share of recall@1 and mAP@R on old classes that was kept when its gate was measured last; None where it was not
    measured."""


class ServingChange(Record):
    """One change of the generation that answers."""

    kind: str
    generation: str | None
    time: str
    forced: bool


class GenerationList(Record):
    """The line of generations."""

    generations: list[GenerationRecord]
    serving: str | None
    revision: int
    """Number of changes of the serving generation so far; promote and rollback state the one they were decided on."""
    history: list[ServingChange]


class FlippedQuery(Record):
    """A probe image that was answered rightly before and wrongly after, or the other way round."""

    index: int
    """Number of the probe image; see `GET /v1/generations/{name}/gate/{index}/image`."""
    label: str
    before: str | None
    """Label of the best item by the serving generation."""
    after: str | None
    """Label of the best item by the candidate."""


class GateCheck(Record):
    """One limit of the gate and what was measured."""

    name: str
    measured: float | None
    limit: float
    kind: str
    passed: bool | None
    images: int


class GateAnswer(Record):
    """What would change if a generation answered queries."""

    generation: str
    serving: str
    passed: bool
    reasons: list[str]
    checks: list[GateCheck]
    flips: list[FlippedQuery]
    """Negative flips."""


class PromoteRequest(Body):
    """Let a generation answer queries."""

    revision: int
    """The revision of the serving file that this was decided on; refused with 409 if it has changed since."""
    force: bool = False
    """Promote even if the gate fails."""


class RollbackRequest(Body):
    """Let an earlier generation answer again."""

    revision: int
    generation: str | None = None
    """None: the one that answered before."""


class ServingRecord(Record):
    """Which generation answers, after a change."""

    serving: str
    revision: int
