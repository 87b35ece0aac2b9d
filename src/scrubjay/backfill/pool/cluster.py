"""Chunks of images embedded on a Ray cluster, by actors that load the generation once each (Ray Data).

Every machine has to see the catalogue and the images under the same paths, as on a shared file system. Nothing is
reported to the makers of Ray.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from scrubjay.backfill.pool import Chunk, embed_chunk, load_encoder, lower_priority
from scrubjay.data.images import ImageOptions
from scrubjay.errors import ConfigError, StorageError
from scrubjay.types import Embeddings, Sample

WINDOW = 64
"""Chunks that are handed to Ray at a time: what was done is stored before the next are read."""

Row = dict[str, Any]


class Actor:
    """Embeds chunks on a machine of the cluster."""

    def __init__(self, generation: str, images: dict[str, Any]) -> None:
        lower_priority()
        import torch

        torch.set_num_threads(1)
        self.encoder = load_encoder(Path(generation), ImageOptions(**images))

    def __call__(self, row: Row) -> Row:
        """A row with a chunk → a row with its number and its embeddings, as JSON and bytes."""
        samples = [Sample(Path(path), 0, box=tuple(box) if box else None) for path, box in json.loads(row["samples"])]
        found = _columns(embed_chunk(self.encoder, samples))
        return {"number": row["number"], "vectors": found.pop("vectors"), "rest": json.dumps(found)}


def embedded(
    generation: Path, images: ImageOptions, chunks: Iterable[Chunk], jobs: int, address: str
) -> Generator[tuple[int, Embeddings], None, None]:
    """See `scrubjay.backfill.pool.embedded`; results come as they are finished.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
        StorageError: the cluster failed.
    """
    arguments = str(generation.absolute()), images.model_dump(mode="json")
    coming = (
        {"number": number, "samples": json.dumps([[str(each.path.absolute()), each.box] for each in chunk])}
        for number, chunk in enumerate(chunks)
    )
    with _connected(address, jobs) as ray:
        while rows := list(islice(coming, WINDOW)):
            yield from _done(ray, rows, jobs, arguments)


def _done(
    ray: Any, rows: list[Row], jobs: int, arguments: tuple[Any, ...]
) -> Generator[tuple[int, Embeddings], None, None]:
    data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        Actor,
        fn_constructor_args=arguments,
        compute=ray.data.ActorPoolStrategy(size=min(jobs, len(rows))),
        num_cpus=1,
    )
    try:
        for row in data.iter_rows():
            yield int(row["number"]), _embeddings(row)
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[-200:]
        raise StorageError(f"the Ray cluster failed (… {reason}); give the same command again to go on.") from None


@contextmanager
def _connected(address: str, jobs: int) -> Iterator[Any]:
    """Ray, connected, and disconnected afterwards; a connection that was there before is used and left as it is."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise ConfigError("Ray is not installed: pip install 'scrubjay[ray]', or leave --ray out.") from None
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, address, jobs)
    context = ray.data.DataContext.get_current()
    shown, context.enable_progress_bars = context.enable_progress_bars, False
    loggers = {name: logging.getLogger(name).level for name in ("ray", "ray.data")}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.ERROR)  # else it tells of every plan and its paths
    try:
        yield ray
    finally:
        context.enable_progress_bars = shown
        for name, level in loggers.items():
            logging.getLogger(name).setLevel(level)
        if ours:
            ray.shutdown()  # of a cluster that was there before only this connection


def _connect(ray: Any, address: str, jobs: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == "local":
            ray.init("local", num_cpus=jobs + 1, include_dashboard=False, **quiet)
        else:
            _knock(address)
            ray.init(address, **quiet)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"--ray {address}: no cluster answers there ({reason}).") from None


def _knock(address: str) -> None:
    """Raise OSError at once where nothing listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def _embeddings(row: Row) -> Embeddings:
    rest = json.loads(row["rest"])
    return Embeddings(
        np.frombuffer(row["vectors"], np.float32).reshape(-1, rest["dim"]),
        np.array(rest["labels"], dtype=np.int64),
        rest["fingerprint"],
        np.array(rest["indices"], dtype=np.int64),
        tuple((path, reason) for path, reason in rest["failures"]),
    )


def _columns(found: Embeddings) -> Row:
    """An `Embeddings` as plain values that travel between machines."""
    return {
        "vectors": found.vectors.tobytes(),
        "dim": found.vectors.shape[1],
        "labels": found.labels.tolist(),
        "indices": found.indices.tolist(),
        "fingerprint": found.fingerprint,
        "failures": [list(each) for each in found.failures],
    }
