"""Unknown queries: those that matched nothing and whose images were kept."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from scrubjay.errors import ImageError
from scrubjay.service.dependencies import Opened, Reader, Writer
from scrubjay.service.images import JPEG
from scrubjay.service.problems import ProblemError, image_refused, not_found, problems
from scrubjay.service.schemas.unknown import UnknownAnswer
from scrubjay.service.unknown import unknown_answer

router = APIRouter(prefix="/v1", tags=["unknown queries"])

Content = Annotated[str, Path(max_length=100, description="Content hash of the query.")]


@router.get("/unknown", dependencies=Reader, responses=problems(409))
async def unknown(opened: Opened) -> UnknownAnswer:
    """Queries that matched nothing, in groups of similar images, and whether they look like new classes."""
    return await opened.background.run(unknown_answer, opened.unknown)


@router.get(
    "/unknown/{query}/image",
    response_class=Response,
    dependencies=Reader,
    responses={**problems(404), **JPEG},
)
async def unknown_image(
    opened: Opened,
    query: Content,
    side: Annotated[int, Query(ge=16, le=2048, description="Longest side, in pixels.")] = 256,
) -> Response:
    """The image of an unknown query as a JPEG file, without metadata."""
    data = await opened.run(opened.unknown.read, query)
    if data is None:
        raise _not_kept(query)
    try:
        content = await opened.decoder.reencode(data, side)
    except ImageError as error:
        raise image_refused(f"query {query}: {error}") from None
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@router.delete("/unknown/{query}", status_code=204, dependencies=Writer, responses=problems(404))
async def delete_unknown(opened: Opened, query: Content) -> None:
    """Delete the image of an unknown query, and what the log of queries holds of it."""
    if not await opened.run(opened.unknown.discard, query):
        raise _not_kept(query)
    log = opened.catalogue.upkeep.searcher.query_log
    await opened.run(log.remove, {query}, set[str]())


def _not_kept(query: str) -> ProblemError:
    return not_found(f"No image of the query {query[:100]!r} is kept.")
