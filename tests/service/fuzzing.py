"""Requests that nobody would send by accident: damaged images and archives, and parameters of any shape."""

from __future__ import annotations

import base64
import io
import json
import string
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote

import numpy as np
from hypothesis import strategies as st
from PIL import Image

EXTREME = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Numbers at which a length or a size turns into another one."""
MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp", "image/svg+xml", "application/pdf", "text/html", "")
HEADER = 64
"""Most numbers that a decoder relies on lie within so many bytes from the beginning."""


@dataclass(frozen=True)
class Sent:
    """A request: its path, and the arguments of `httpx.Client.request`."""

    method: str
    path: str
    arguments: dict[str, Any] = field(default_factory=dict)


@cache
def bases() -> tuple[bytes, ...]:
    """Sound images of many formats and modes."""
    noise = np.random.default_rng(0).integers(0, 255, (23, 31, 4), np.uint8)
    image = Image.fromarray(noise)
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True, "quality": 30}),
        ("CMYK", "JPEG", {}),
        ("L", "JPEG", {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"}),
        ("RGBA", "PNG", {}),
        ("P", "PNG", {"bits": 4}),
        ("I;16", "PNG", {}),
        ("1", "PNG", {}),
        ("RGB", "WEBP", {"quality": 40}),
        ("RGBA", "WEBP", {"lossless": True}),
        ("P", "GIF", {}),
        ("RGB", "BMP", {}),
        ("L", "BMP", {}),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("RGB", "TIFF", {"compression": "jpeg"}),
        ("1", "TIFF", {"compression": "group4"}),
        ("RGB", "PPM", {}),
        ("RGB", "JPEG2000", {}),
    ]
    found = []
    for mode, name, options in kinds:
        encoded = io.BytesIO()
        (image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)).save(encoded, name, **options)
        found.append(encoded.getvalue())
    return tuple(found)


@st.composite
def mutated(draw: st.DrawFn, base: bytes) -> bytes:
    """Content with up to five mutations: bytes changed, cut off, left out, put in, or a number made extreme."""
    content = bytearray(base)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3, 5]))):
        reach = min(len(content), HEADER) if draw(st.booleans()) else len(content)
        place = draw(st.integers(0, max(0, reach - 1)))
        match draw(st.sampled_from(["set", "cut", "drop", "insert", "number", "repeat"])):
            case "set" if content:
                content[place] = draw(st.integers(0, 255))
            case "cut":
                del content[place:]
            case "drop":
                del content[place : place + draw(st.integers(1, 32))]
            case "insert":
                content[place:place] = draw(st.binary(max_size=24))
            case "number":
                order, size = draw(st.sampled_from(["<H", ">H", "<I", ">I"])), draw(st.sampled_from(EXTREME))
                packed = struct.pack(order, size & (0xFFFF if order[1] == "H" else 0xFFFFFFFF))
                content[place : place + len(packed)] = packed
            case "repeat":
                content[place:place] = content[place : place + draw(st.integers(1, 64))] * draw(st.integers(1, 8))
    return bytes(content)


def images() -> st.SearchStrategy[bytes]:
    """Content of image files, sound and damaged, and anything else."""
    svg = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><script>alert(1)</script></svg>"
    base = st.integers(0, len(bases()) - 1).map(lambda number: bases()[number])
    return st.one_of(
        base,
        base.flatmap(mutated),
        base.flatmap(mutated),
        st.binary(max_size=256),
        st.tuples(base, st.sampled_from([svg, b"<html>", b"%PDF-1.4", b"PK\3\4"])).map(b"".join),
        mutated(svg),
    )


def names() -> st.SearchStrategy[str]:
    """File names, good and bad."""
    odd = (
        "",
        ".",
        "..",
        "../x.png",
        "/etc/x.png",
        "a\\..\\b.png",
        "a/" * 60 + "x.png",
        "x" * 300,
        "a\0b",
        "é/ß.png",
        "C:x",
    )
    plain = st.text("ab.", min_size=1, max_size=6)
    return st.one_of(
        st.sampled_from(odd), st.tuples(plain, plain).map("/".join).map("{}.png".format), st.text(max_size=20)
    )


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Zip files of images, with names and contents of any kind, damaged themselves one time in two."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
        for _ in range(draw(st.integers(0, 4))):
            entry = zipfile.ZipInfo()
            entry.filename = draw(names()).encode("utf-8", "replace").decode()
            entry.external_attr = draw(st.sampled_from([0, 0o120777 << 16, 0o100644 << 16, 0o040755 << 16]))
            content = draw(images())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # two entries may have one name
                archive.writestr(entry, content)
    content = made.getvalue()
    return draw(mutated(content)) if draw(st.booleans()) else content


def values() -> st.SearchStrategy[Any]:
    """JSON of any shape, in which names of fields occur."""
    keys = (
        "k",
        "labels",
        "where",
        "combine",
        "generation",
        "images",
        "image",
        "item",
        "base64",
        "crop",
        "before",
        "after",
    )
    more = ("kind", "upload", "classes", "items", "revision", "force", "ids", "into", "name", "metadata", "label")
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(["g0", "g1", "fig", "learn", "[0,0,5,5]", "/etc/passwd", "\ud800", "\0"]),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(st.one_of(st.sampled_from(keys + more), st.text(max_size=6)), inner, max_size=5),
        ),
        max_leaves=12,
    )


def texts() -> st.SearchStrategy[str]:
    """What a field of a form that takes JSON is sent: JSON of any shape, damaged JSON, or any text."""
    dumped = values().map(json.dumps)
    return st.one_of(dumped, dumped.map(lambda text: text[: len(text) // 2]), st.text(max_size=40))


def files(field: str, limit: int = 2) -> st.SearchStrategy[list[tuple[str, tuple[str, bytes, str]]]]:
    """Files of a form, under a field."""
    types = st.one_of(st.just("application/octet-stream"), st.sampled_from(MEDIA_TYPES))
    named = st.tuples(names(), images(), types)
    return st.lists(named.map(lambda file: (field, file)), min_size=1, max_size=limit)


def forms(path: str, field: str, *texts_in: str) -> st.SearchStrategy[Sent]:
    """Forms with files and fields of text."""
    fields = st.fixed_dictionaries({}, optional={name: texts() for name in texts_in})
    return st.builds(lambda sent, data: Sent("POST", path, {"files": sent, "data": data}), files(field), fields)


def documents(method: str, path: str, shape: Callable[[Any], Any] = lambda value: value) -> st.SearchStrategy[Sent]:
    """Bodies of JSON, damaged or not what is taken."""

    def sent(text: str) -> Sent:
        content = text.encode("utf-8", "surrogatepass")
        return Sent(method, path, {"content": content, "headers": {"Content-Type": "application/json"}})

    return st.one_of(values().map(shape).map(json.dumps), texts()).map(sent)


def _query(image: bytes, crop: Any) -> dict[str, Any]:
    return {"base64": base64.b64encode(image).decode(), "crop": crop}


def parameters() -> st.SearchStrategy[Sent]:
    """Paths and query strings of any kind."""
    segment = st.one_of(
        st.sampled_from(["g0", "g1", "..", "%2e%2e", "%00", "fig", "0"]), st.text(string.printable, max_size=12)
    )
    resources = ("items/{}", "items/{}/image", "jobs/{}", "uploads/{}", "uploads/{}/images/{}", "unknown/{}/image")
    more = ("generations/{}/gate/{}/image", "classes/{}", "items", "classes/confusions")
    query = st.dictionaries(
        st.sampled_from(["cursor", "limit", "label", "where", "side"]),
        st.one_of(texts(), st.integers(-(2**40), 2**40).map(str)),
        max_size=3,
    )

    def sent(template: str, one: str, other: str, query: dict[str, str]) -> Sent:
        path = template.format(*(quote(part, safe="%") for part in (one, other)))
        return Sent("GET", f"/v1/{path}", {"params": query})

    return st.builds(sent, st.sampled_from(resources + more), segment, segment, query)


def requests() -> st.SearchStrategy[Sent]:
    """Requests to every path that takes an image or a parameter; those that learn are not among them."""
    crops = st.one_of(st.none(), st.none(), st.lists(st.integers(-5, 40), max_size=5), st.integers())
    searched = st.builds(_query, images(), crops)
    json_type = {"Content-Type": "application/json"}

    def document(path: str, body: Any) -> Sent:
        return Sent("POST", path, {"content": json.dumps(body).encode(), "headers": json_type})

    of_images = st.one_of(
        forms("/v1/search/upload", "images"),
        forms("/v1/search/upload", "images", "settings", "crop"),
        forms("/v1/items", "images"),
        searched.map(lambda image: document("/v1/search", {"images": [image]})),
        searched.map(lambda image: document("/v1/compare", {"image": image, "before": "g0", "after": "g1"})),
        searched.map(lambda image: document("/v1/explain", {"image": image, "item": "none"})),
        st.builds(
            lambda archive, name: Sent("POST", "/v1/uploads", {"files": [("archive", (name, archive, ""))]}),
            archives(),
            names(),
        ),
        forms("/v1/uploads", "images"),
        forms("/v1/items", "images", "label", "metadata"),
    )
    others = st.one_of(
        *(documents("POST", path) for path in ("/v1/search", "/v1/compare", "/v1/explain", "/v1/items/delete")),
        documents("POST", "/v1/jobs", lambda value: {"kind": "export", "generation": value}),
        documents("POST", "/v1/rollback", lambda value: {"revision": -1, "generation": value}),
        documents("POST", "/v1/generations/g0/promote", lambda value: {"revision": value, "extra": 1}),
        documents("PATCH", "/v1/classes/none"),
        documents("POST", "/v1/classes/none/merge"),
        documents("PATCH", "/v1/items/none"),
        parameters(),
    )
    return st.booleans().flatmap(lambda images: of_images if images else others)  # one in two holds an image
