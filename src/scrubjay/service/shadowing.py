"""Query images for the shadow generation, which answers them later: any worker of the service may do so.

    shop/shadow/<content>-<number>.ppm

Only the images that the shadow generation is to answer are kept, as decoded, and only until it has.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from PIL import Image

from scrubjay.generations.serving import ServingFile
from scrubjay.search.query_image import QueryImage
from scrubjay.search.query_log import Query
from scrubjay.search.request import QueryRequest
from scrubjay.search.shadow import selected
from scrubjay.types import Hit

KEPT = 1000
"""Largest number of images that wait; queries beyond it get no shadow answer."""


class ShadowImages:
    """Keeps query images until the shadow generation has answered them.

    Args:
        folder: folder of the catalogue.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "shadow"
        self._serving = ServingFile(folder)

    def kept(self, requests: Sequence[QueryRequest]) -> list[QueryRequest]:
        """The requests, with paths for those images that the shadow generation is to answer; they are written."""
        shadow = self._serving.read().shadow
        if shadow is None:
            return list(requests)
        return [
            replace(request, images=tuple(self._kept(image, shadow.share) for image in request.images))
            if not request.filtered and not request.combine and request.generation is None
            else request
            for request in requests
        ]

    def answer(self, query: Query, answer: Callable[[Query], list[Hit]]) -> list[Hit]:
        """The answer of the shadow generation to a query, whose image is removed afterwards."""
        try:
            return answer(query)
        finally:
            path = Path(query.image or "")
            if path.parent == self._folder.absolute():
                with suppress(OSError):
                    path.unlink()

    def _kept(self, image: QueryImage, share: float) -> QueryImage:
        if image.path is not None or not selected(image.content, share):
            return image
        path = self._folder.absolute() / f"{image.content}-{secrets.token_hex(4)}.ppm"
        try:
            self._folder.mkdir(exist_ok=True)
            if len(list(self._folder.iterdir())) >= KEPT:
                return image
            Image.fromarray(image.pixels).save(path, "PPM")
        except OSError:  # a search never fails because of its shadow answer
            return image
        return replace(image, path=path)
