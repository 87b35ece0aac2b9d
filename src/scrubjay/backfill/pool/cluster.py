"""Embeds chunks of images on a Ray cluster, with actors that load the generation once each (Ray Data).

Every machine must see the catalogue and the images under the same paths, as on a shared file system. Ray's usage
statistics are switched off.
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

from scrubjay.backfill.pool.chunk import Chunk, Embedded, embed_chunk, load_encoder, lower_priority
from scrubjay.data.images import ImageOptions
from scrubjay.errors import ConfigError, StorageError
from scrubjay.types import Embeddings, Sample, TrunkFeatures

WINDOW = 64
"""Number of chunks that are handed to Ray at a time; their results are stored before further chunks are read."""

Row = dict[str, Any]


class Actor:
    """Embeds chunks on a machine of the cluster."""

    def __init__(self, generation: str, images: dict[str, Any], features: bool) -> None:
        lower_priority()
        import torch

        torch.set_num_threads(1)
        self.encoder = load_encoder(Path(generation), ImageOptions(**images))
        self.features = features

    def __call__(self, row: Row) -> Row:
        """Embed the chunk of a row; returns a row with its number and its embeddings, as JSON and bytes."""
        samples = [Sample(Path(path), 0, box=tuple(box) if box else None) for path, box in json.loads(row["samples"])]
        columns = _to_columns(embed_chunk(self.encoder, samples, self.features))
        return {"number": row["number"], "vectors": columns.pop("vectors"), "rest": json.dumps(columns)}


def embed_chunks(
    generation: Path, images: ImageOptions, chunks: Iterable[Chunk], jobs: int, address: str, features: bool
) -> Generator[tuple[int, Embedded], None, None]:
    """See `scrubjay.backfill.pool.embed_chunks`; results come in the order of completion.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
        StorageError: the cluster failed.
    """
    arguments = str(generation.absolute()), images.model_dump(mode="json"), features
    chunk_rows = (
        {"number": number, "samples": json.dumps([[str(each.path.absolute()), each.box] for each in chunk])}
        for number, chunk in enumerate(chunks)
    )
    with _connected(address, jobs) as ray:
        while rows := list(islice(chunk_rows, WINDOW)):
            yield from _results(ray, rows, jobs, arguments)


def _results(
    ray: Any, rows: list[Row], jobs: int, arguments: tuple[Any, ...]
) -> Generator[tuple[int, Embedded], None, None]:
    data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        Actor,
        fn_constructor_args=arguments,
        compute=ray.data.ActorPoolStrategy(size=min(jobs, len(rows))),
        num_cpus=1,
    )
    try:
        for row in data.iter_rows():
            yield int(row["number"]), _from_columns(row)
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[-200:]
        raise StorageError(f"the Ray cluster failed (… {reason}); give the same command again to continue.") from None


@contextmanager
def _connected(address: str, jobs: int) -> Iterator[Any]:
    """Connect to Ray within the block; an existing connection is used and kept."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise ConfigError("Ray is not installed: pip install 'scrubjay[ray]', or omit --ray.") from None
    connect = not ray.is_initialized()
    if connect:
        _connect(ray, address, jobs)
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


def _connect(ray: Any, address: str, jobs: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == "local":
            ray.init("local", num_cpus=jobs + 1, include_dashboard=False, **quiet)
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


def _from_columns(row: Row) -> Embedded:
    """The inverse of `_to_columns`, from a row as `Actor` returns it."""
    rest = json.loads(row["rest"])
    kind: type[Embedded] = TrunkFeatures if rest["kind"] == "features" else Embeddings
    return kind(
        np.frombuffer(row["vectors"], np.float32).reshape(-1, rest["dim"]).copy(),  # torch takes no read-only memory
        np.array(rest["labels"], dtype=np.int64),
        rest["space"],
        np.array(rest["indices"], dtype=np.int64),
        tuple((path, reason) for path, reason in rest["failures"]),
    )


def _to_columns(embedded: Embedded) -> Row:
    """Embeddings or trunk features as plain values that can be sent between machines."""
    if isinstance(embedded, TrunkFeatures):
        kind, vectors, space = "features", embedded.features, embedded.era
    else:
        kind, vectors, space = "embeddings", embedded.vectors, embedded.fingerprint
    return {
        "kind": kind,
        "vectors": vectors.tobytes(),
        "dim": vectors.shape[1],
        "space": space,
        "labels": embedded.labels.tolist(),
        "indices": embedded.indices.tolist(),
        "failures": [list(failure) for failure in embedded.failures],
    }
