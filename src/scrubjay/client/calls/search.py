"""Requests that search: search, compare, explain."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from scrubjay.client.call import Call, Image, Part, answer_of, content_of, file_part
from scrubjay.service.schemas.base import Box, MetadataValue
from scrubjay.service.schemas.search import (
    CompareAnswer,
    CompareRequest,
    ExplainAnswer,
    ExplainRequest,
    QueryImage,
    SearchAnswer,
    SearchRequest,
    SearchSettings,
)

Query = Image | QueryImage
"""An image to search with: a file, or a `QueryImage` that names an item or has a crop."""


def search(
    images: Query | Sequence[Query],
    *,
    k: int = 10,
    labels: Sequence[str] = (),
    where: Mapping[str, MetadataValue] | None = None,
    combine: bool = False,
    generation: str | None = None,
    crop: Box | None = None,
) -> Call[SearchAnswer]:
    """Find the items that are most similar to images.

    Args:
        images: one image or several: paths, contents, open files, or `QueryImage`s that name items.
        k: number of hits for each answer.
        labels: consider only items with one of these labels; empty for all.
        where: consider only items whose metadata have all these values.
        combine: take all images as views of one object: one answer for all.
        generation: answer by this generation instead of the one that serves.
        crop: search with this part of the image only; it needs a single file.

    Raises:
        DataError: a file cannot be read.
    """
    several: list[Query]
    several = list(images) if isinstance(images, Sequence) and not isinstance(images, str | bytes) else [images]
    settings = SearchSettings(k=k, labels=list(labels), where=dict(where or {}), combine=combine, generation=generation)
    files = [image for image in several if not isinstance(image, QueryImage)]
    if len(files) == len(several) and (crop is None or len(files) == 1):
        return _upload(files, settings, crop)
    request = SearchRequest(**settings.model_dump(), images=[query_image(image, crop) for image in several])
    return Call("POST", "/v1/search", answer_of(SearchAnswer), body=request)


def _upload(files: Sequence[Image], settings: SearchSettings, crop: Box | None) -> Call[SearchAnswer]:
    parts = [file_part("images", image, number=number) for number, image in enumerate(files)]
    parts.append(Part("settings", settings.model_dump_json()))
    if crop is not None:
        parts.append(Part("crop", f"[{','.join(map(str, crop))}]"))
    return Call("POST", "/v1/search/upload", answer_of(SearchAnswer), parts=tuple(parts))


def compare(image: Query, before: str, after: str, *, k: int = 10) -> Call[CompareAnswer]:
    """Answer one query by two generations, and list the items that moved.

    Args:
        image: the image to search with.
        before: name of a generation.
        after: name of another one.
        k: number of hits of each answer.

    Raises:
        DataError: a file cannot be read.
    """
    request = CompareRequest(image=query_image(image), before=before, after=after, k=k)
    return Call("POST", "/v1/compare", answer_of(CompareAnswer), body=request)


def explain(image: Query, item: str) -> Call[ExplainAnswer]:
    """Decompose the similarity of an image and an item over the positions of both.

    Args:
        image: the image to search with.
        item: id of the item.

    Raises:
        DataError: a file cannot be read.
    """
    request = ExplainRequest(image=query_image(image), item=item)
    return Call("POST", "/v1/explain", answer_of(ExplainAnswer), body=request)


def query_image(image: Query, crop: Box | None = None) -> QueryImage:
    """The image of a query as it stands in JSON.

    Args:
        image: a file or a `QueryImage`.
        crop: the part to search with; a `QueryImage` keeps its own.

    Raises:
        DataError: a file cannot be read.
    """
    if isinstance(image, QueryImage):
        return image if crop is None or image.crop is not None else image.model_copy(update={"crop": crop})
    return QueryImage(base64=base64.b64encode(content_of(image)).decode(), crop=crop)
