"""Embeds the images of several requests together; images of a combined request become one query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import DataError
from scrubjay.models.embedding import Encoder
from scrubjay.search.query_image import QueryImage
from scrubjay.search.request import QueryRequest

_SMALLEST_MEAN = 1e-3  # norm of the mean of unit vectors below which it has no direction beyond rounding


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedQuery:
    """One query as a generation sees it.

    Attributes:
        request: the request that it belongs to.
        image: the image; None where several are combined.
        vector: float32 (d,), of unit norm.
        features: trunk features float32 (1, p); None where nothing needs them.
    """

    request: QueryRequest
    image: QueryImage | None
    vector: NDArray[np.float32]
    features: NDArray[np.float32] | None

    @property
    def content(self) -> str | None:
        """Content hash of the image; None where several are combined."""
        return None if self.image is None else self.image.content


def embed_requests(
    encoder: Encoder, requests: Sequence[QueryRequest], with_features: bool
) -> list[list[EmbeddedQuery] | DataError]:
    """The queries of each request, embedded together.

    Args:
        encoder: the network of the generation that answers.
        requests: the requests.
        with_features: keep the trunk features as well.

    Returns:
        For each request its queries, one for each image or a single one; or why its images cannot be combined.
    """
    pixels = [image.pixels for request in requests for image in request.images]
    features = encoder.pixel_features(pixels) if with_features else None
    vectors = encoder.embed_pixels(pixels) if features is None else encoder.project(features)
    embedded: list[list[EmbeddedQuery] | DataError] = []
    first = 0
    for request in requests:
        rows = slice(first, first + len(request.images))
        first = rows.stop
        own = None if features is None else features[rows]
        embedded.append(
            _combined(request, vectors[rows], own) if request.combine else _each(request, vectors[rows], own)
        )
    return embedded


def _each(
    request: QueryRequest, vectors: NDArray[np.float32], features: NDArray[np.float32] | None
) -> list[EmbeddedQuery]:
    return [
        EmbeddedQuery(request, image, vectors[row], None if features is None else features[row : row + 1])
        for row, image in enumerate(request.images)
    ]


def _combined(
    request: QueryRequest, vectors: NDArray[np.float32], features: NDArray[np.float32] | None
) -> list[EmbeddedQuery] | DataError:
    mean = vectors.mean(axis=0, dtype=np.float64)
    norm = float(np.linalg.norm(mean))
    if norm < _SMALLEST_MEAN:
        return DataError(f"{len(vectors)} images that are too unlike to be combined; search with each by itself.")
    mean_features = None if features is None else features.mean(axis=0, dtype=np.float64, keepdims=True)
    image = request.images[0] if len(request.images) == 1 else None
    kept = None if mean_features is None else mean_features.astype(np.float32)
    return [EmbeddedQuery(request, image, (mean / norm).astype(np.float32), kept)]
