"""Serves the files of the web page, compressed: `/` is the page, `/page/` holds what it loads.

They hold nothing of the catalogue and are sent without a key.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated

from fastapi import APIRouter, FastAPI, Header, Response

from scrubjay.service.problems import ProblemError

router = APIRouter(include_in_schema=False)

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page.

    Attributes:
        content: its bytes.
        compressed: the same, compressed with gzip.
        media_type: its type.
        tag: its entity tag, which changes with the content.
    """

    content: bytes
    compressed: bytes
    media_type: str
    tag: str


def install(app: FastAPI) -> None:
    """Add the page to an application."""
    app.include_router(router)


@router.get("/")
async def index(
    accept_encoding: Annotated[str, Header()] = "", if_none_match: Annotated[str, Header()] = ""
) -> Response:
    """The document that loads everything else."""
    return _answer(page_files()["index.html"], accept_encoding, if_none_match)


@router.get("/page/{name:path}")
async def page_file(
    name: str, accept_encoding: Annotated[str, Header()] = "", if_none_match: Annotated[str, Header()] = ""
) -> Response:
    """A style sheet, script, icon or table of texts, by a name from a fixed list."""
    found = page_files().get(name)
    if found is None:
        raise ProblemError(404, "not-found", "There is no such file", f"The page has no file {name!r}.")
    return _answer(found, accept_encoding, if_none_match)


@functools.cache
def page_files() -> dict[str, PageFile]:
    """All files of the page by their paths, read once."""
    found: dict[str, PageFile] = {}
    _collect(files("scrubjay.service") / "page", "", found)
    return found


def _collect(folder: Traversable, prefix: str, found: dict[str, PageFile]) -> None:
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            _collect(entry, f"{name}/", found)
        elif (media_type := _TYPES.get("." + entry.name.rpartition(".")[2])) is not None:
            content = entry.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
            found[name] = PageFile(content, gzip.compress(content, mtime=0), media_type, tag)


def _answer(file: PageFile, accept_encoding: str, if_none_match: str) -> Response:
    """The file, or that the caller has it; browsers ask again each time, so that all files are of one version."""
    headers = {"Cache-Control": "no-cache", "ETag": file.tag, "Vary": "Accept-Encoding"}
    if file.tag in if_none_match:
        return Response(status_code=304, headers=headers)
    if "gzip" in accept_encoding:
        headers["Content-Encoding"] = "gzip"
        return Response(file.compressed, media_type=file.media_type, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
