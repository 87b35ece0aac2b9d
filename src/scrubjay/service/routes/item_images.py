"""The images of items, decoded under limits and encoded again before they are sent."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response

from scrubjay.errors import ImageError
from scrubjay.service.dependencies import Opened, Reader
from scrubjay.service.images import JPEG, find_item, item_file
from scrubjay.service.problems import image_refused, problems

router = APIRouter(prefix="/v1", tags=["items"], dependencies=Reader)

_HEADERS = {"Cache-Control": "private, max-age=3600"}


@router.get(
    "/items/{id}/image",
    response_class=Response,
    responses={**problems(404, 410), **JPEG, 304: {"description": "The caller has this image already."}},
)
async def item_image(
    opened: Opened,
    id: Annotated[str, Path(max_length=500, description="Id of the item.")],
    side: Annotated[int, Query(ge=16, le=2048, description="Longest side, in pixels.")] = 256,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The image of an item as a JPEG file, without metadata."""
    item = await find_item(opened, id)
    headers = {**_HEADERS, "ETag": f'"{item.content_hash}-{side}"'}
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    key = (item.content_hash, side)
    content = opened.thumbnails.get(key)
    if content is None:
        data, box = await item_file(opened, item)
        try:
            content = await opened.decoder.reencode(data, side, box)
        except ImageError as error:
            raise image_refused(f"item {item.id}: {error}") from None
        opened.thumbnails.put(key, content)
    return Response(content, media_type="image/jpeg", headers=headers)
