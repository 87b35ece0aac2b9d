"""Runs the service on uvicorn, in this process or in several."""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import uvicorn
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
        config = _config(folder, options)
        if options.workers == 1:
            _run_one(config, listening)
        else:
            _run_several(config, listening)


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


def _config(folder: Path, options: ServiceOptions) -> uvicorn.Config:
    return uvicorn.Config(
        functools.partial(_application, folder.absolute(), options),
        factory=True,
        workers=options.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=options.shutdown_seconds,
        timeout_worker_healthcheck=60,  # a worker that loads torch does not answer for some seconds
        lifespan="on",
    )


def _application(folder: Path, options: ServiceOptions) -> object:
    """The application of one worker process."""
    from scrubjay.service.app import create_app

    logs.configure(options.log, options.log_level)
    return create_app(folder, options)


def _run_one(config: uvicorn.Config, listening: socket.socket) -> None:
    server = uvicorn.Server(config)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again after it has ended
        server.run(sockets=[listening])
    if not server.started:
        raise StorageError("the service could not start; the log above says why.")


def _run_several(config: uvicorn.Config, listening: socket.socket) -> None:
    shared = tempfile.mkdtemp(prefix="scrubjay-metrics-")
    atexit.register(shutil.rmtree, shared, ignore_errors=True)
    os.environ[_SHARED_FOLDER] = shared  # the workers inherit it
    Multiprocess(config, sockets=[listening]).run()
    sys.stderr.flush()
