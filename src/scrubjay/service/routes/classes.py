"""The classes of a catalogue: list, rename and merge them, and tell which are confused."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query

from scrubjay.catalogue import Catalogue
from scrubjay.service.dependencies import Opened, Reader, Writer
from scrubjay.service.problems import problems
from scrubjay.service.schemas.classes import (
    ClassChange,
    ClassList,
    ClassName,
    ClassRecord,
    ClassTarget,
    Confusion,
    ConfusionList,
)
from scrubjay.service.writing import when_free

router = APIRouter(prefix="/v1", tags=["classes"])

Name = Annotated[str, Path(min_length=1, max_length=200, description="Name of the class; it may hold slashes.")]


@router.get("/classes", dependencies=Reader)
async def list_classes(opened: Opened) -> ClassList:
    """All classes by name: those that were learned, and labels of items."""
    classes = await opened.run(opened.catalogue.inventory.classes)
    return ClassList(
        classes=[
            ClassRecord(
                name=each.name,
                items=each.items,
                learned_in=each.learned_in,
                representative=list(each.representative),
            )
            for each in classes
        ]
    )


@router.get("/classes/confusions", dependencies=Reader, responses=problems(409))
async def list_confusions(
    opened: Opened, limit: Annotated[int, Query(ge=1, le=1000, description="Largest number of pairs.")] = 20
) -> ConfusionList:
    """Pairs of classes whose items are found for each other, the worst first."""
    found = await opened.run(opened.catalogue.inventory.confusions, limit)
    return ConfusionList(
        confusions=[Confusion(classes=each.classes, share=each.share, pairs=list(each.pairs)) for each in found.found],
        items=found.items,
    )


@router.patch("/classes/{name:path}", dependencies=Writer, responses=problems(404, 409))
async def rename_class(opened: Opened, name: Name, new: ClassName) -> ClassChange:
    """Rename a class, in the gallery and wherever it was learned."""
    items = await when_free(opened, partial(opened.run, opened.catalogue.inventory.rename_class, name, new.name))
    return ClassChange(name=new.name, items=items)


@router.post("/classes/{name:path}/merge", dependencies=Writer, responses=problems(404, 409))
async def merge_class(opened: Opened, name: Name, target: ClassTarget) -> ClassChange:
    """Merge a class into another one, for good: afterwards nothing tells their images apart."""

    def merge(catalogue: Catalogue) -> int:
        return catalogue.inventory.merge_classes(name, target.into)

    items = await when_free(opened, lambda: opened.background.run(merge))
    return ClassChange(name=target.into, items=items)
