"""Runs a worker on a Ray cluster, with actors that make it once each (Ray Data).

Every machine must see the files that the worker needs, and the images, under the same paths, as on a shared file
system. Ray's usage statistics are switched off.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrubjay.errors import ConfigError, StorageError
from scrubjay.types import Sample

if TYPE_CHECKING:
    from scrubjay.workers import Chunk, Worker

WINDOW = 64
"""Number of chunks that are handed to Ray at a time; their results are taken before further chunks are read."""

Row = dict[str, Any]


class Actor:
    """Computes the results of chunks on a machine of the cluster."""

    def __init__(self, make: Callable[..., Worker], arguments: tuple[Any, ...]) -> None:
        import torch

        torch.set_num_threads(1)
        self.worker = make(*arguments)

    def __call__(self, row: Row) -> Row:
        """Compute the result of the chunk of a row; returns a row with its number and the result."""
        samples = [
            Sample(Path(path), label, box=tuple(box) if box else None)
            for path, label, box in json.loads(row["samples"])
        ]
        return {"number": row["number"], "result": self.worker(samples)}


def run(
    make: Callable[..., Worker], arguments: tuple[Any, ...], chunks: Iterable[Chunk], actors: int, address: str
) -> Generator[tuple[int, bytes], None, None]:
    """Numbers and results of the chunks, in the order of completion; see `scrubjay.workers.Workers.run`.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
        StorageError: the cluster failed.
    """
    rows = (
        {"number": number, "samples": json.dumps([[str(one.path.absolute()), one.label, one.box] for one in chunk])}
        for number, chunk in enumerate(chunks)
    )
    with _connected(address, actors) as ray:
        while window := list(islice(rows, WINDOW)):
            yield from _results(ray, window, actors, (make, arguments))


def _results(
    ray: Any, rows: list[Row], actors: int, arguments: tuple[Any, ...]
) -> Generator[tuple[int, bytes], None, None]:
    data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        Actor,
        fn_constructor_args=arguments,
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(rows))),
        num_cpus=1,
    )
    try:
        for row in data.iter_rows():
            yield int(row["number"]), row["result"]
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[-200:]
        raise StorageError(f"the Ray cluster failed (… {reason}); give the same command again to continue.") from None


@contextmanager
def _connected(address: str, actors: int) -> Iterator[Any]:
    """Connect to Ray within the block; an existing connection is used and kept."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise ConfigError("Ray is not installed: pip install 'scrubjay[ray]', or omit --ray.") from None
    connect = not ray.is_initialized()
    if connect:
        _connect(ray, address, actors)
    context = ray.data.DataContext.get_current()
    progress_bars, context.enable_progress_bars = context.enable_progress_bars, False
    loggers = {name: logging.getLogger(name).level for name in ("ray", "ray.data")}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.ERROR)  # otherwise Ray logs every execution plan and its paths
    try:
        yield ray
    finally:
        context.enable_progress_bars = progress_bars
        for name, level in loggers.items():
            logging.getLogger(name).setLevel(level)
        if connect:
            ray.shutdown()  # a cluster that this process did not start keeps running; only the connection is closed


def _connect(ray: Any, address: str, actors: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == "local":
            ray.init("local", num_cpus=actors + 1, include_dashboard=False, **quiet)
        else:
            _refuse_closed_port(address)
            ray.init(address, **quiet)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"--ray {address}: no cluster answers there ({reason}).") from None


def _refuse_closed_port(address: str) -> None:
    """Raise OSError at once where no process listens; Ray itself would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()
