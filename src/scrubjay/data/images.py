"""Decoding of image files to RGB, and the options of preprocessing. This module does not import torch."""

from __future__ import annotations

import functools
import io
import os
import warnings
from pathlib import Path
from typing import Annotated, Literal, Self

from PIL import Image, UnidentifiedImageError
from pydantic import Field, model_validator

from scrubjay.config import Config
from scrubjay.errors import ImageError

# Formats that need another program to render them (EPS, WMF), or hold no image of their own, are left out.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}  # where not the format's own name
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MAX_PIXELS = 100_000_000
_PILLOW_REFUSES = 178_956_970

Box = tuple[int, int, int, int]


class ImageOptions(Config):
    """How images are decoded, resized and augmented. The defaults are the paper's recipe."""

    size: int = Field(224, ge=8)
    """Side of the square crop that is fed to the network, in pixels."""
    resize: int = Field(256, ge=8)
    """Length of an image's short side before it is cropped, in pixels."""
    scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.16, 1.0)
    """Smallest and largest area of a random crop, as a share of the image's area."""
    flip: float = Field(0.5, ge=0, le=1)
    """Probability of a horizontal flip in training."""
    views: int | None = Field(None, ge=1)
    """Number of different random crops of an image in training; by default every crop is new. With a limit, the
    activations of a frozen first part of the network (`network.frozen`) can be cached."""
    max_pixels: int = Field(_MAX_PIXELS, gt=0, le=_PILLOW_REFUSES)
    """Images with more pixels than this are refused before they are decoded."""
    on_error: Literal["skip", "raise"] = "skip"
    """What to do about an image that cannot be decoded: skip and report it, or stop the run."""
    cache_mb: int = Field(2048, ge=0)
    """Memory for decoded and resized images, in MiB; images that do not fit are decoded every time they are used."""
    workers: int = Field(0, ge=0)
    """Number of processes that decode images; with 0 the calling process decodes them."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.resize < self.size:
            raise ValueError(f"resize = {self.resize} is smaller than size = {self.size}; make it at least as large")
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale = {self.scale} has its ends swapped; write the smaller share first")
        return self


def decode(
    source: Path | bytes, *, max_pixels: int = _MAX_PIXELS, box: Box | None = None, short_side: int | None = None
) -> Image.Image:
    """Decode an image to mode RGB, upright; the first frame of an animation.

    EXIF orientation is applied; palette, CMYK and grey images become RGB; 16-bit grey is scaled, not clipped;
    transparent pixels are composited onto white.

    Args:
        source: path of the image file, or its content.
        max_pixels: largest width x height that the file's header may state.
        box: crop in pixels of the upright image (left, top, right, bottom); it is clipped to the image.
        short_side: length to which the caller will shrink the short side. A JPEG several times larger may be decoded
            at a reduced size, never below twice this length. Ignored with a `box`.

    Raises:
        ImageError: the file is missing, not an image, damaged, truncated or too large, or the box lies outside it.
    """
    name = image_name(source)
    if isinstance(source, Path) and not os.path.isfile(source):  # unlike Path.is_file, False where access is denied
        raise ImageError(f"{name}: no such file; restore it or take it off the list.")
    # Pillow warns of damaged metadata, which does not affect the pixels, and of large images, which are refused below.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _read(source, max_pixels, box, short_side)
        except ImageError:
            raise
        except UnidentifiedImageError:
            raise ImageError(f"{name}: not an image; save it again as JPEG or PNG.") from None
        except Image.DecompressionBombError:
            raise ImageError(f"{name}: more than {_PILLOW_REFUSES} pixels; shrink it.") from None
        except Exception as error:  # on a damaged file Pillow's decoders raise errors of any type
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ImageError(f"{name}: cannot be decoded ({reason}); save it again as JPEG or PNG.") from None


def decode_to_resize(source: Path | bytes, options: ImageOptions, box: Box | None = None) -> Image.Image:
    """Decode an image that is resized next; see `decode`.

    Raises:
        ImageError: it cannot be decoded, or would have too many pixels after it is resized.
    """
    image = decode(source, max_pixels=options.max_pixels, box=box, short_side=options.resize)
    short, long = sorted(image.size)
    if options.resize**2 * long > options.max_pixels * short:
        size = f"{image.width} x {image.height}"
        raise ImageError(f"{image_name(source)}: {size} is too elongated to resize; crop it.")
    return image


def image_extension(content: bytes) -> str:
    """The usual extension of a file name, without the dot, for the format of an image; its header tells the format.

    Raises:
        ImageError: it is not an image of a known format.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=image_formats()) as image:
                format = str(image.format)
    except Exception:  # on a damaged header Pillow raises errors of any type
        raise ImageError(f"{image_name(content)}: not an image; save it again as JPEG or PNG.") from None
    return _EXTENSIONS.get(format, format.lower())


def image_name(source: Path | bytes) -> str:
    """How messages name an image: by its path, or as the image where only its content is given."""
    return str(source) if isinstance(source, Path) else "the image"


def _read(source: Path | bytes, max_pixels: int, box: Box | None, short_side: int | None) -> Image.Image:
    name = image_name(source)
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    with Image.open(opened, formats=image_formats()) as image:
        if image.width * image.height > max_pixels:
            size = f"{image.width} x {image.height} pixels"
            raise ImageError(f"{name}: {size}, the limit is {max_pixels}; shrink it or raise max_pixels.")
        if short_side is not None and box is None:
            image.draft(None, (2 * short_side, 2 * short_side))
        image.load()
        transposition = _to_upright(image)
        decoded = _rgb(image)
    if transposition is not None:
        decoded = decoded.transpose(transposition)
    return decoded if box is None else _cropped(decoded, box, name)


@functools.cache
def image_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are decoded."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _to_upright(image: Image.Image) -> Image.Transpose | None:
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata: the pixels are used unrotated
        return None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bit(image).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey values, or floats in 0 … 1, scaled to 8 bits; values beyond that range raise the white point."""
    import numpy as np

    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    white = max(1.0 if image.mode == "F" else 65535.0, float(values.max()))
    return Image.fromarray((values.clip(0) / white * 255).round().astype(np.uint8))


def _cropped(decoded: Image.Image, box: Box, name: str) -> Image.Image:
    left, top, right, bottom = max(box[0], 0), max(box[1], 0), min(box[2], decoded.width), min(box[3], decoded.height)
    if left >= right or top >= bottom:
        raise ImageError(
            f"{name}: box {box} lies outside the {decoded.width} x {decoded.height} image; correct or remove it."
        )
    return decoded.crop((left, top, right, bottom))
