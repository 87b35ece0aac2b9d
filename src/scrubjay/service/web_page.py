"""Serves the files of the web page, which the package holds: `/` is the page, `/page/` holds what it loads."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

FILES = Path(__file__).parent / "page"
"""Folder of the page's files."""


class _Revalidated(StaticFiles):
    """Files that a browser keeps, and asks each time whether they have changed: a new version is seen at once."""

    def file_response(self, *args: object, **keywords: object) -> Response:
        """The answer with a file."""
        answer = super().file_response(*args, **keywords)  # type: ignore[arg-type]
        answer.headers["Cache-Control"] = "no-cache"
        return answer


def install(app: FastAPI) -> None:
    """Add the page to an application; without its files, `/` leads to the documentation of the API."""
    if not (FILES / "index.html").is_file():

        @app.get("/", include_in_schema=False)
        async def documentation() -> Response:
            return RedirectResponse("/docs")

        return

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return FileResponse(FILES / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/page", _Revalidated(directory=FILES))
