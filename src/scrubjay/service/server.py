"""Runs the service on uvicorn, in this process or in several."""

from __future__ import annotations

import atexit
import errno
import functools
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from scrubjay.errors import CatalogueError, ConfigError, StorageError
from scrubjay.service import logs
from scrubjay.service.keys import KeyFile
from scrubjay.service.options import ServiceOptions

_BACKLOG = 2048
_SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
logger = logging.getLogger(__name__)


def serve(folder: Path, options: ServiceOptions, announce: Callable[[str], None]) -> None:
    """Serve a catalogue until the process is asked to end; requests that were accepted are finished.

    Args:
        folder: folder of the catalogue.
        options: options of the service.
        announce: called with a line that says where the service listens and whether it requires keys.

    Raises:
        CatalogueError: the folder is not a catalogue.
        ConfigError: the address cannot be used, or is not a loopback address and there are no keys.
        StorageError: a worker could not start; the log says why.
    """
    if not (folder / "catalogue.json").is_file():
        raise CatalogueError(f"{folder}: no catalogue here; make one first: scrubjay init {folder}")
    required = KeyFile(folder).required
    if not required and not options.loopback:
        raise ConfigError(
            f"host = {options.host!r}: other machines could reach the service, and there are no API keys; make one "
            f"first: scrubjay keys make {folder} NAME"
        )
    with bound(options) as listening:
        announce(_line(folder, options, listening, required))
        logs.configure(options.log, options.log_level)
        if options.workers == 1:
            _run_one(folder, options, listening)
        else:
            _run_several(folder, options, listening)


def bound(options: ServiceOptions) -> socket.socket:
    """A socket that listens on the address of the options.

    Raises:
        ConfigError: the port is in use, or this machine does not have the address.
    """
    listening = None
    try:
        family, _, _, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        if listening is not None:
            listening.close()
        cure = "stop what uses it, or choose another one: --port" if error.errno == errno.EADDRINUSE else "check them"
        reason = error.strerror or error
        raise ConfigError(f"host {options.host}, port {options.port}: {reason}; {cure}.") from None
    listening.set_inheritable(True)
    return listening


def address(listening: socket.socket) -> str:
    """The URL of the service that listens on a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _line(folder: Path, options: ServiceOptions, listening: socket.socket, required: bool) -> str:
    access = "API keys are required" if required else "no API keys are required, because only this machine reaches it"
    workers = f", {options.workers} workers" if options.workers > 1 else ""
    url = address(listening)
    return f"serving {folder} on {url} ({access}{workers}). API: {url}docs. Ctrl-C ends it."


def _config(app: Any, options: ServiceOptions, factory: bool) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=factory,
        workers=options.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=options.shutdown_seconds,
        timeout_worker_healthcheck=15,  # a worker that loads torch may not answer for some seconds
        lifespan="on",
    )


def _application(folder: Path, options: ServiceOptions) -> object:
    """The application of one worker process."""
    from scrubjay.service.app import create_app

    logs.configure(options.log, options.log_level)
    return create_app(folder, options)


def _run_one(folder: Path, options: ServiceOptions, listening: socket.socket) -> None:
    from scrubjay.service.app import create_app

    # uvicorn raises the signal again after it has finished all requests; that is no failure
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        app = create_app(folder.absolute(), options)
        uvicorn.Server(_config(app, options, factory=False)).run(sockets=[listening])
    except KeyboardInterrupt:
        return
    except SystemExit as stop:
        if stop.code != STARTUP_FAILURE:
            raise
        raise getattr(app.state, "failure", _not_started()) from None


def _run_several(folder: Path, options: ServiceOptions, listening: socket.socket) -> None:
    shared = tempfile.mkdtemp(prefix="scrubjay-metrics-")
    atexit.register(shutil.rmtree, shared, ignore_errors=True)
    os.environ[_SHARED_FOLDER] = shared  # the workers inherit it
    make = functools.partial(_application, folder.absolute(), options)
    supervisor = Multiprocess(_config(make, options, factory=True), sockets=[listening])
    supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise _not_started()


def _not_started() -> StorageError:
    return StorageError("the service could not start; the log above says why.")
