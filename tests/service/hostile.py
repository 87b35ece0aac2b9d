"""Image files that are not what they seem, or more than a service should decode."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image


def noise_image(side: int = 40, mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(side).integers(0, 255, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG file of grey pixels with these bytes as its compressed rows."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A small file whose header states 900 million pixels, as its content does."""
    return png(width, height, zlib.compress(bytes(1000 * 1000), 9))


def animated(kind: str) -> bytes:
    return encoded(noise_image(20), kind, save_all=True, append_images=[noise_image(21).resize((20, 20))], duration=10)


def with_zip() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("run.sh", "true")
    return encoded(noise_image(), "JPEG") + archive.getvalue()


def commented(text: bytes) -> bytes:
    """A JPEG file with a comment."""
    return encoded(noise_image(), "JPEG", comment=text)


SVG = (
    b"""<?xml version="1.0"?><!-- drawing --><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>"""
)

REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "text": (b"hello", "not an image"),
    "zeros": (bytes(1000), "not an image"),
    "svg": (SVG, "SVG"),
    "bare svg": (b"  <svg></svg>", "SVG"),
    "html": (b"<!doctype html><html></html>", "not an image"),
    "pdf": (b"%PDF-1.7\n", "not an image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "png with its end cut off": (encoded(noise_image(64))[:3000], "cannot be decoded"),
    "jpeg with its end cut off": (encoded(noise_image(64), "JPEG")[:1500], "cannot be decoded"),
    "webp with its end cut off": (encoded(noise_image(64), "WEBP")[:900], ""),
    "only a header": (encoded(noise_image())[:33], ""),
    "bomb": (bomb(), "pixels"),
    "bomb below the limit of Pillow": (bomb(12_000, 12_000), "the limit is"),
    "one row": (bomb(60_000, 1), "too elongated"),
    "one column": (bomb(1, 60_000), "too elongated"),
    "no pixels": (png(0, 5, zlib.compress(b"")), ""),
    "huge numbers": (png(2**31 - 1, 2**31 - 1, zlib.compress(b"")), ""),
    "gif with frames": (animated("GIF"), "several frames"),
    "webp with frames": (animated("WEBP"), "several frames"),
    "png with frames": (animated("PNG"), "several frames"),
    "tiff with pages": (animated("TIFF"), "several frames"),
    "jpeg and zip": (with_zip(), "zip archive"),
    "jpeg and page": (commented(b"<script>alert(1)</script>"), "web page"),
    "jpeg and program": (encoded(noise_image(), "JPEG") + b"<?php system('id'); ?>", "web page"),
    "gif and script": (encoded(noise_image(), "GIF") + b"<HTML><body>", "web page"),
    "png and pdf": (encoded(noise_image())[:33] + chunk(b"tEXt", b"a\0%PDF-1.4") + encoded(noise_image())[33:], "PDF"),
}
"""Files that the decoder refuses, by what is wrong with them, with a part of the reason that is given."""

ROTATED = Image.Exif()
ROTATED[0x0112] = 6

TAKEN: dict[str, tuple[bytes, tuple[int, int]]] = {
    "jpeg": (encoded(noise_image(), "JPEG"), (40, 40)),
    "cmyk": (encoded(noise_image(mode="CMYK"), "JPEG"), (40, 40)),
    "rotated by exif": (encoded(noise_image().resize((60, 40)), "JPEG", exif=ROTATED), (40, 60)),
    "grey of 16 bits": (encoded(noise_image(mode="I;16")), (40, 40)),
    "palette with transparency": (encoded(noise_image(mode="P"), transparency=0), (40, 40)),
    "black and white": (encoded(noise_image(mode="1")), (40, 40)),
    "gif of one frame": (encoded(noise_image(), "GIF"), (40, 40)),
    "tiff": (encoded(noise_image(), "TIFF", compression="tiff_lzw"), (40, 40)),
    "one pixel": (encoded(noise_image(1)), (1, 1)),
}
"""Files that look unusual and are images nevertheless, with the size of the upright image."""
