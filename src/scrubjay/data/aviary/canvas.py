"""An antialiased canvas: shapes are drawn several times larger and then reduced."""

from __future__ import annotations

from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFilter

from scrubjay.data.aviary.geometry import Points, stroke
from scrubjay.data.aviary.palette import Colour


class Sheet:
    """A transparent canvas of `size` × `size` pixels; coordinates are pixels of the finished image."""

    def __init__(self, size: int, detail: int = 3) -> None:
        self._detail = detail
        self._image = Image.new("RGBA", (size * detail, size * detail))
        self._draw = ImageDraw.Draw(self._image)

    def fill(self, points: Points, colour: Colour, opacity: float = 1.0) -> None:
        """Fill the polygon `points` (n, 2); earlier pixels are replaced, including their opacity."""
        self._draw.polygon((points * self._detail).ravel().tolist(), fill=(*colour, round(255 * opacity)))

    def line(self, points: Points, widths: ArrayLike, colour: Colour, opacity: float = 1.0) -> None:
        """A stroke along `points` (n, 2) with half widths in pixels, drawn like any other shape."""
        self.fill(stroke(points, widths), colour, opacity)

    def finished(self, blur: float = 0.0) -> Image.Image:
        """The sheet at its final size, RGBA, with a Gaussian blur of `blur` pixels unless that is too small to see."""
        image = self._image.reduce(self._detail) if self._detail > 1 else self._image
        return image.filter(ImageFilter.GaussianBlur(blur)) if blur > 0.2 else image
