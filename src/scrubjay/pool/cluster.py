"""Chunks of pictures embedded on a Ray cluster, by actors that load the generation once each (Ray Data).

Every machine has to see the catalogue and the pictures under the same paths, as on a shared file system.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scrubjay.data.images import ImageOptions
from scrubjay.errors import ConfigError, StorageError
from scrubjay.pool import Chunk, embed_chunk, load_embedder
from scrubjay.types import Embeddings, Sample

WINDOW = 64
"""Chunks that are handed to Ray at a time: what was done is stored before the next are read."""


class Actor:
    """Embeds chunks on a machine of the cluster."""

    def __init__(self, generation: str, images: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(1)
        self.embedder = load_embedder(Path(generation))
        self.images = ImageOptions(**images)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row with a chunk → a row with its number and its embeddings, as JSON and bytes."""
        samples = [Sample(Path(path), 0, box=tuple(box) if box else None) for path, box in json.loads(row["samples"])]
        found = _columns(embed_chunk(self.embedder, samples, self.images))
        return {"number": row["number"], "vectors": found.pop("vectors"), "rest": json.dumps(found)}


def embedded(
    generation: Path, images: ImageOptions, chunks: Iterable[Chunk], jobs: int, address: str
) -> Iterator[tuple[int, Embeddings]]:
    """See `scrubjay.pool.embedded`; results come as they are finished.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
        StorageError: the cluster failed.
    """
    ray = _connected(address, jobs)
    rows: list[dict[str, Any]] = []
    try:
        for number, chunk in enumerate(chunks):
            rows.append({"number": number, "samples": json.dumps([[str(each.path), each.box] for each in chunk])})
            if len(rows) == WINDOW:
                yield from _done(ray, generation, images, rows, jobs)
                rows = []
        if rows:
            yield from _done(ray, generation, images, rows, jobs)
    finally:
        if address == "local":
            ray.shutdown()


def _done(
    ray: Any, generation: Path, images: ImageOptions, rows: list[dict[str, Any]], jobs: int
) -> Iterator[tuple[int, Embeddings]]:
    data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        Actor,
        fn_constructor_args=(str(generation.absolute()), images.model_dump(mode="json")),
        concurrency=min(jobs, len(rows)),
        num_cpus=1,
    )
    try:
        for row in data.iter_rows():
            yield int(row["number"]), _embeddings(row)
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[-200:]
        raise StorageError(f"the Ray cluster failed ({reason}); give the same command again to go on.") from None


def _embeddings(row: dict[str, Any]) -> Embeddings:
    rest = json.loads(row["rest"])
    return Embeddings(
        np.frombuffer(row["vectors"], np.float32).reshape(-1, rest["dim"]),
        np.array(rest["labels"], dtype=np.int64),
        rest["fingerprint"],
        np.array(rest["indices"], dtype=np.int64),
        tuple((path, reason) for path, reason in rest["failures"]),
    )


def _connected(address: str, jobs: int) -> Any:
    try:
        import ray
        import ray.data
    except ImportError:
        raise ConfigError("Ray is not installed: pip install 'scrubjay[ray]', or leave --ray out.") from None
    if not ray.is_initialized():
        try:
            if address == "local":
                ray.init("local", num_cpus=max(1, jobs) + 1, include_dashboard=False, log_to_driver=False)
            else:
                ray.init(address, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"--ray {address}: no cluster answers there ({reason}).") from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    return ray


def _columns(found: Embeddings) -> dict[str, Any]:
    """An `Embeddings` as plain values that travel between machines."""
    return {
        "vectors": found.vectors.tobytes(),
        "dim": found.vectors.shape[1],
        "labels": found.labels.tolist(),
        "indices": found.indices.tolist(),
        "fingerprint": found.fingerprint,
        "failures": [list(each) for each in found.failures],
    }
