"""Search by images, comparison of two generations, and explanation of a hit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile
from pydantic import TypeAdapter

from scrubjay.search.query_image import QueryImage
from scrubjay.search.request import QueryRequest
from scrubjay.service.answers import answer_record, compare_answer, explain_answer
from scrubjay.service.dependencies import CallerScopes, Opened, Reader
from scrubjay.service.forms import parsed
from scrubjay.service.images import SentImage, decoded, find_item, named_image, named_images, sent_file
from scrubjay.service.opened import OpenCatalogue
from scrubjay.service.problems import ProblemError, conflict, not_found, problems
from scrubjay.service.schemas.base import Box, Scope
from scrubjay.service.schemas.search import (
    AnswerRecord,
    CompareAnswer,
    CompareRequest,
    ExplainAnswer,
    ExplainRequest,
    SearchAnswer,
    SearchRequest,
    SearchSettings,
)

router = APIRouter(prefix="/v1", tags=["search"], dependencies=Reader)

_BOX: TypeAdapter[Box | None] = TypeAdapter(Box | None)


@router.post("/search", responses=problems(404, 409, 410, 504))
async def search(opened: Opened, scopes: CallerScopes, request: SearchRequest) -> SearchAnswer:
    """Search with images in base64, or with the images of items."""
    with opened.coming():
        images = await named_images(opened, request.images)
        return await _searched(opened, images, request, scopes)


@router.post("/search/upload", responses=problems(404, 409, 504))
async def search_upload(
    opened: Opened,
    scopes: CallerScopes,
    images: Annotated[list[UploadFile], File(min_length=1, max_length=64, description="Image files.")],
    settings: Annotated[str, Form(description="SearchSettings as JSON.", examples=['{"k": 10}'])] = "{}",
    crop: Annotated[
        str, Form(description="With one image: left, top, right, bottom as JSON.", examples=["[10, 10, 200, 150]"])
    ] = "null",
) -> SearchAnswer:
    """Search with image files."""
    chosen = parsed(TypeAdapter(SearchSettings), settings, "body", "settings")
    box = parsed(_BOX, crop, "body", "crop")
    if box is not None and (len(images) > 1 or not (box[0] < box[2] and box[1] < box[3])):
        raise ProblemError(
            422,
            "invalid-request",
            "The request is not as required",
            "body.crop: give it with one image only, as left, top, right, bottom with left < right and top < bottom.",
        )
    with opened.coming():
        limit = opened.options.image_mb * 2**20
        sent = [await sent_file(image, limit, box) for image in images]
        return await _searched(opened, sent, chosen, scopes)


@router.post("/compare", responses=problems(404, 409, 410, 504))
async def compare(opened: Opened, request: CompareRequest) -> CompareAnswer:
    """Answer a query by two generations, and tell which items moved."""
    with opened.coming():
        images = await decoded(opened, [await named_image(opened, request.image, "image")])
        answers = []
        for name in (request.before, request.after):
            answers += await answered(opened, images, SearchSettings(k=request.k, generation=name))
    return compare_answer(*answers)


@router.post("/explain", responses=problems(404, 409, 410, 504))
async def explain(opened: Opened, request: ExplainRequest) -> ExplainAnswer:
    """Decompose the similarity of a query and an item over the positions of both images."""
    item = await find_item(opened, request.item)
    (image,) = await decoded(opened, [await named_image(opened, request.image, "image")])
    explained = await opened.in_time(opened.engine.run(opened.catalogue.explain_item, image, item.id))
    if explained.explanation is None:
        raise conflict(f"Item {item.id!r} cannot be explained: {explained.reason}.")
    return explain_answer(explained.explanation)


async def _searched(
    opened: OpenCatalogue, sent: Sequence[SentImage], settings: SearchSettings, scopes: Sequence[Scope]
) -> SearchAnswer:
    images = await decoded(opened, sent)
    answers = await answered(opened, images, settings, scopes)
    if not (settings.combine or settings.labels or settings.where or settings.generation):
        for image, query, answer in zip(sent, images, answers, strict=True):
            if answer.matched is False:
                data = image.data if image.crop is None else query.pixels
                await opened.run(opened.unknown.keep, query.content, data)
    return SearchAnswer(answers=answers)


async def answered(
    opened: OpenCatalogue, images: Sequence[QueryImage], settings: SearchSettings, scopes: Sequence[Scope] = ()
) -> list[AnswerRecord]:
    """The answers to decoded images, as they are sent.

    Args:
        opened: the open catalogue.
        images: the decoded images.
        settings: what to search for.
        scopes: what the caller may do; administrators see where the images of hits are.

    Raises:
        ProblemError: there is no such generation (404).
    """
    name = settings.generation
    if name is not None and name not in await opened.run(opened.catalogue.lineage.by_name):
        raise not_found(f"There is no generation {name[:100]!r}.")
    asked = QueryRequest(
        images=tuple(images),
        k=settings.k,
        labels=tuple(settings.labels),
        where=settings.where,
        combine=settings.combine,
        generation=name,
    )
    answers = await opened.search(asked)
    rate = opened.catalogue.options.false_match_rate
    queries = [None] * len(answers) if settings.combine else [image.content for image in images]
    return [answer_record(answer, rate, query, scopes) for answer, query in zip(answers, queries, strict=True)]
