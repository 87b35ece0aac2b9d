"""Requests about classes, and teaching new ones."""

from __future__ import annotations

from collections.abc import Sequence

from scrubjay.client.call import Call, Image, Part, answer_of, file_part
from scrubjay.service.schemas.classes import ClassChange, ClassList, ClassName, ClassTarget, ConfusionList, Taught
from scrubjay.service.schemas.jobs import JobRecord


def classes() -> Call[ClassList]:
    """All classes by name, with their numbers of items and representative items."""
    return Call("GET", "/v1/classes", answer_of(ClassList))


def confusions(*, limit: int | None = None) -> Call[ConfusionList]:
    """Pairs of classes that are found for each other, the worst first.

    Args:
        limit: number of pairs; None for that of the service.
    """
    return Call("GET", "/v1/classes/confusions", answer_of(ConfusionList), query={"limit": limit}, slow=True)


def rename_class(name: str, to: str) -> Call[ClassChange]:
    """Give a class another name.

    Args:
        name: its name.
        to: its new name.
    """
    body = ClassName(name=to)
    return Call("PATCH", "/v1/classes/{name}", answer_of(ClassChange), {"name": name}, body=body, repeatable=False)


def merge_class(name: str, into: str) -> Call[ClassChange]:
    """Merge a class into another one.

    Args:
        name: the class that ends.
        into: the class that takes it in.
    """
    body, path = ClassTarget(into=into), {"name": name}
    return Call("POST", "/v1/classes/{name}/merge", answer_of(ClassChange), path, body=body, repeatable=False)


def forget_class(name: str) -> Call[JobRecord]:
    """Start a job that forgets a class: its items and everything that was computed from its images."""
    return Call("DELETE", "/v1/classes/{name}", answer_of(JobRecord), {"name": name}, repeatable=False)


def teach(name: str, images: Sequence[Image] = (), *, queries: Sequence[str] = ()) -> Call[Taught]:
    """Teach a class from a few images; it is searchable when this returns, if the gate passed.

    Args:
        name: name of the class.
        images: paths, contents or open files.
        queries: content hashes of unknown queries whose images the service has kept.

    Raises:
        DataError: there is no file at a path.
    """
    parts = [file_part("images", image, number=number) for number, image in enumerate(images)]
    parts += [Part("queries", query) for query in queries]
    return Call(
        "POST",
        "/v1/classes/{name}/images",
        answer_of(Taught),
        {"name": name},
        parts=tuple(parts),
        repeatable=False,
        slow=True,
    )
