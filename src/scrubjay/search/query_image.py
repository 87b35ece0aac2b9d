"""An image to search with, as a value: it may come from a file, an upload or a camera. This module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scrubjay.data.images import Box, ImageOptions, decode_to_resize
from scrubjay.data.photos import bytes_hash, content_hash
from scrubjay.types import Sample


@dataclass(frozen=True, slots=True, eq=False)
class QueryImage:
    """A decoded image to search with.

    Attributes:
        content: `content_hash` of the image file and of the crop: the id of the item of the same image.
        pixels: uint8 (H, W, 3), RGB, upright. A large JPEG may be decoded at a reduced size, as in `decode`.
        path: the image file; None for an image that was sent without one.
    """

    content: str
    pixels: NDArray[np.uint8]
    path: Path | None = None

    @classmethod
    def read(cls, source: Path | bytes, options: ImageOptions, box: Box | None = None) -> Self:
        """Decode an image to search with.

        Args:
            source: path of the image file, or its content.
            options: how the catalogue prepares images.
            box: crop in pixels of the upright image (left, top, right, bottom).

        Raises:
            ImageError: the image is missing, damaged, too large or too elongated, or the box lies outside it.
        """
        pixels = np.asarray(decode_to_resize(source, options, box))
        if isinstance(source, bytes):
            return cls(bytes_hash(source, box), pixels)
        return cls(content_hash(Sample(source, 0, box=box)), pixels, source.absolute())
