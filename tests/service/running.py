"""A service over a small catalogue: as an application in this process, or as a process of its own that listens.

`served(root)` starts `scrubjay serve` over `root/shop` and gives its URL; `application(folder)` gives a client that
calls the application directly. Make the catalogue with `shops.copied` or `shops.metric_shop`, which copy a template
that is trained once for all tests.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from fastapi.testclient import TestClient

from scrubjay.service.app import create_app
from scrubjay.service.options import ServiceOptions
from waiting import GUARD, until

OPTIONS = ServiceOptions(decode_processes=1, rate=1_000_000, rate_burst=1_000_000)
"""Options that do not limit tests, which send requests as fast as they can."""


@contextmanager
def application(folder: Path, options: ServiceOptions = OPTIONS, key: str | None = None) -> Iterator[TestClient]:
    """A client of the application that serves the catalogue in a folder, in this process."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    with TestClient(
        create_app(folder, options), base_url="http://127.0.0.1", headers=headers, raise_server_exceptions=False
    ) as client:
        yield client


@dataclass(frozen=True)
class Running:
    """A service in a process of its own.

    Attributes:
        url: where it listens, without a slash at the end.
        process: the process; with several workers their parent.
        log: file with its log.
        line: what it printed when it started.
    """

    url: str
    process: subprocess.Popen[str]
    log: Path
    line: str

    @property
    def port(self) -> str:
        """The port that it listens on."""
        return self.url.rpartition(":")[2]

    def client(self, key: str | None = None) -> httpx.Client:
        """A client with the key of a caller."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=GUARD)

    def end(self, number: int = signal.SIGINT) -> int:
        """Ask the service to end; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(GUARD)


@dataclass(frozen=True)
class Fuzzed:
    """A service that is sent everything.

    Attributes:
        running: the service.
        root: folder of the images and of the catalogue `shop`.
        key: key of an administrator; None where none is needed.
    """

    running: Running
    root: Path
    key: str | None

    @property
    def headers(self) -> dict[str, str]:
        """Headers that hold the key."""
        return {} if self.key is None else {"Authorization": f"Bearer {self.key}"}


@contextmanager
def served(folder: Path, *arguments: str, settings: Sequence[str] = ()) -> Iterator[Running]:
    """Run `scrubjay serve` over the catalogue in a folder on a free port of this machine, until the block is left.

    Args:
        folder: folder of the catalogue.
        arguments: further arguments of the command.
        settings: options of the service, as `name=value`.
    """
    chosen = ["decode_processes=1", "rate=1000000", "rate_burst=1000000", *settings]
    options = [part for setting in chosen for part in ("--set", setting)]
    command = [sys.executable, "-c", "from scrubjay.cli import main; main()", "serve", str(folder), "--port", "0"]
    log = folder.parent / "service.log"
    with log.open("a") as errors:  # two services of one folder share it
        process = subprocess.Popen(
            [*command, *arguments, *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+(?=/ )", line)
        assert found, f"no address in {line!r}; the log: {log.read_text()}"
        running = Running(found.group(), process, log, line)
        until(lambda: answers(running), process)
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(GUARD)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


def answers(running: Running) -> bool:
    """Whether the service answers at all."""
    try:
        return httpx.get(f"{running.url}/healthz", timeout=GUARD).status_code == 200
    except httpx.TransportError:
        return False
