"""Requests about generations: their list, the gate, promotion and rollback."""

from __future__ import annotations

from scrubjay.client.call import Call, answer_of, raw
from scrubjay.service.schemas.generations import (
    GateAnswer,
    GenerationList,
    PromoteRequest,
    RollbackRequest,
    ServingRecord,
)


def generations() -> Call[GenerationList]:
    """The line of generations, the one that serves, and the history of changes."""
    return Call("GET", "/v1/generations", answer_of(GenerationList))


def gate(name: str) -> Call[GateAnswer]:
    """What would change if a generation answered queries."""
    return Call("GET", "/v1/generations/{name}/gate", answer_of(GateAnswer), {"name": name}, slow=True)


def gate_image(name: str, index: int) -> Call[bytes]:
    """A probe image of the gate as the content of a JPEG file.

    Args:
        name: name of the generation.
        index: number of the image, from a `FlippedQuery`.
    """
    path = {"name": name, "index": str(index)}
    return Call("GET", "/v1/generations/{name}/gate/{index}/image", raw, path)


def promote(name: str, *, revision: int, force: bool = False) -> Call[ServingRecord]:
    """Let a generation answer queries.

    Args:
        name: name of the generation.
        revision: the revision that this was decided on, from `generations` or `status`; if it has changed since, the
            service refuses with status 409.
        force: promote even if the gate fails.
    """
    body = PromoteRequest(revision=revision, force=force)
    path = {"name": name}
    template = "/v1/generations/{name}/promote"
    return Call("POST", template, answer_of(ServingRecord), path, body=body, repeatable=False, slow=True)


def rollback(*, revision: int, generation: str | None = None) -> Call[ServingRecord]:
    """Let an earlier generation answer again.

    Args:
        revision: the revision that this was decided on; if it has changed since, the service refuses with status 409.
        generation: name of a generation; None for the one that answered before.
    """
    body = RollbackRequest(revision=revision, generation=generation)
    return Call("POST", "/v1/rollback", answer_of(ServingRecord), body=body, repeatable=False)
