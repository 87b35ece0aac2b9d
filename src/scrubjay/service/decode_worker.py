"""A process that decodes untrusted image files: its memory is limited, it can write no file, and it may be killed.

Run as `python -m scrubjay.service.decode_worker FD LIMITS`. It reads pairs of messages from the connection FD, a task
in JSON and an image file, and answers each with a pair: a result in JSON and its bytes. Nothing it sends is unpickled.
"""

from __future__ import annotations

import io
import json
import re
import resource
import sys
import zipfile
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from scrubjay.data.images import ImageOptions, decode, decode_to_resize, image_formats
from scrubjay.errors import ImageError

_MARKUP = re.compile(rb"<script|<!doctype|<html[\s>]|<\?php\s|<iframe", re.IGNORECASE)
_VECTOR = re.compile(rb"\s*(<\?xml[^>]*>|<!--.*?-->|<!doctype svg[^>]*>|\s)*<svg[\s>]", re.IGNORECASE | re.DOTALL)
_QUALITY = 85
_TYPES = {"MPO": "image/jpeg", "JPEG2000": "image/jp2", "PPM": "image/x-portable-anymap"}
_SAME_TYPES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/x-ms-bmp": "image/bmp",
    "image/x-bmp": "image/bmp",
    "image/tif": "image/tiff",
    "image/jpx": "image/jp2",
    "image/j2k": "image/jp2",
    "image/x-portable-bitmap": "image/x-portable-anymap",
    "image/x-portable-graymap": "image/x-portable-anymap",
    "image/x-portable-pixmap": "image/x-portable-anymap",
}
"""Other names of media types."""


def refuse_unsafe(data: bytes, declared: str | None, ratio: int, max_pixels: int) -> Image.Image:
    """Open an image file, whose header alone is read, unless it is one that the service does not take.

    Refused are files that are something else as well (a web page, a PDF, an archive), that are said to be of another
    type than they are, that have several frames, or that are too large or too elongated.

    Args:
        data: content of the file.
        declared: media type that it was sent with, if any.
        ratio: largest ratio of the long side to the short side.
        max_pixels: largest width x height.

    Raises:
        ImageError: it is refused, or not an image.
    """
    if _VECTOR.match(data[:4096]):
        raise ImageError("SVG files are not taken, because they are programs; save it as PNG.")
    image = _opened(data)
    also = _other_kind(data)
    if also is not None:
        raise ImageError(f"the file is {also} as well as an image; save the image again as JPEG or PNG.")
    media_type = _TYPES.get(image.format or "", Image.MIME.get(image.format or "", ""))
    declared = _SAME_TYPES.get(declared or "", declared or "")
    if declared.startswith("image/") and declared != media_type:
        raise ImageError(f"the file is said to be {declared} and is {media_type}; correct its name or type.")
    short, long = sorted(image.size)
    if short * long > max_pixels:
        raise ImageError(f"{image.width} x {image.height} pixels, the limit is {max_pixels}; shrink it.")
    if short < 1 or long > ratio * short:
        raise ImageError(f"{image.width} x {image.height} is too elongated, the limit is {ratio} : 1; crop it.")
    if image.format != "MPO" and getattr(image, "is_animated", False):  # further images of an MPO are previews
        raise ImageError("the file has several frames; save one of them as an image of its own.")
    return image


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=image_formats())
    except Image.DecompressionBombError:
        raise ImageError("it has too many pixels; shrink it.") from None
    except Exception:  # on a damaged header Pillow raises errors of any type
        raise ImageError("it is not an image; save it again as JPEG or PNG.") from None


def _other_kind(data: bytes) -> str | None:
    """What else a file is for programs that look for a signature inside it."""
    if b"%PDF-" in data[:1024]:
        return "a PDF file"
    if _MARKUP.search(data):
        return "a web page"
    if zipfile.is_zipfile(io.BytesIO(data)):
        return "a zip archive"
    return None


def perform(task: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """The result of one task; see `scrubjay.service.decoding.Decoder` for what they are.

    Raises:
        ImageError: the image is refused or cannot be decoded.
    """
    box = tuple(task["box"]) if task.get("box") else None
    limit = task["max_pixels"]
    with refuse_unsafe(data, task.get("declared"), task["ratio"], limit) as image:
        facts = {"format": image.format, "width": image.width, "height": image.height}
    if task["kind"] == "query":
        options = ImageOptions(size=task["size"], resize=task["resize"], max_pixels=limit)
        decoded = decode_to_resize(data, options, box)
        return {**facts, "width": decoded.width, "height": decoded.height}, decoded.tobytes()
    side = task["side"]
    decoded = decode(data, max_pixels=limit, box=box, short_side=side)
    if task["kind"] == "inspect":
        return facts, b""
    decoded.thumbnail((side, side))
    encoded = io.BytesIO()
    decoded.save(encoded, "JPEG", quality=_QUALITY, optimize=True)
    return {**facts, "width": decoded.width, "height": decoded.height}, encoded.getvalue()


def restrict(megabytes: int) -> None:
    """Limit the address space of this process, and let it write no files."""
    resource.setrlimit(resource.RLIMIT_AS, (megabytes * 2**20, megabytes * 2**20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Answer tasks until the connection is closed."""
    connection = Connection(int(sys.argv[1]))
    Image.init()
    restrict(int(sys.argv[2]))
    connection.send_bytes(b"ready")
    while True:
        try:
            task, data = json.loads(connection.recv_bytes()), connection.recv_bytes()
        except EOFError:
            return
        try:
            result, content = perform(task, data)
        except ImageError as error:
            result, content = {"refused": str(error).removeprefix("the image: ")}, b""
        except MemoryError:
            result, content = {"refused": "it takes too much memory to decode; shrink it."}, b""
        del data
        connection.send_bytes(json.dumps(result).encode())
        connection.send_bytes(content)
        del content


if __name__ == "__main__":
    main()
