"""The application: one catalogue over HTTP."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware

from scrubjay.errors import ScrubjayError
from scrubjay.service import VERSION, documentation, problems, routes, web_page
from scrubjay.service.guard import Guard, Recorder
from scrubjay.service.keys import KeyFile
from scrubjay.service.opened import OpenCatalogue
from scrubjay.service.options import ServiceOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)


def create_app(folder: Path, options: ServiceOptions | None = None) -> FastAPI:
    """The application that serves a catalogue. The catalogue is opened when the application starts.

    Args:
        folder: folder of the catalogue.
        options: options of the service.

    Raises:
        ScrubjayError: when it starts, and in `app.state.failure`: the folder is no catalogue, or cannot be read.
    """
    chosen = options or ServiceOptions()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            opened = app.state.opened = OpenCatalogue(folder, chosen)
            await opened.begin()
        except ScrubjayError as error:
            app.state.failure = error
            logger.error("the catalogue cannot be served: %s", error)
            raise
        try:
            with _at_signal(opened.stopping.set):
                yield
        finally:
            opened.stopping.set()
            await opened.close()

    app = FastAPI(
        title="scrubjay",
        summary="A catalogue of images that keeps learning, over HTTP.",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app, folder)
    documentation.install(app, KeyFile(folder))
    web_page.install(app)
    for router in _routers():
        app.include_router(router, responses=problems.problems(*problems.COMMON))
    app.add_middleware(Guard, keys=KeyFile(folder), options=chosen)
    if chosen.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(chosen.origins),
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(Recorder, metrics=lambda: getattr(getattr(app.state, "opened", None), "metrics", None))
    return app


def _routers() -> list[APIRouter]:
    """The routers of all modules in `routes`, by the names of the modules."""
    names = sorted(module.name for module in pkgutil.iter_modules(routes.__path__))
    return [importlib.import_module(f"{routes.__name__}.{name}").router for name in names]


@contextmanager
def _at_signal(function: Callable[[], Any]) -> Iterator[None]:
    """Call a function when the process is asked to end, before the server waits for open answers such as streams."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: Any) -> None:
        function()
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
