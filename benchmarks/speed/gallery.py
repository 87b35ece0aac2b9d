"""Overhead of the gallery over bare LanceDB and over a bare matrix product: `python benchmarks/speed/gallery.py`."""

from __future__ import annotations

import tempfile

import lancedb
import numpy as np
import pyarrow as pa
from ratios import Ratio, alternate, show
from ratios import seconds as once

from scrubjay.gallery.gallery import Gallery
from scrubjay.stores import Item, Space, open_store

N, DIM, BATCH, QUERIES, K = 10_000, 512, 1_000, 256, 10


def unit(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute_force(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    scores = queries @ vectors.T
    best = np.argpartition(scores, -K, axis=1)[:, -K:]
    return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1), 1)


def measure() -> list[Ratio]:
    vectors, queries, space = unit(N, 0), unit(QUERIES, 1), Space("g0", DIM, "benchmark", "g0")
    items = [Item(f"{row:064x}", f"{row}.jpg", f"{row:064x}", str(row % 100)) for row in range(N)]
    size = f"{N:,} items of {DIM} dimensions"
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery(open_store(f"lancedb://{folder}/gallery"))
        engine = lancedb.connect(f"{folder}/bare")
        bare: list[lancedb.table.Table] = []
        ours = theirs = 0.0
        for first in range(0, N, BATCH):
            block = slice(first, first + BATCH)
            ours += once(lambda block=block: gallery.add(items[block], vectors[block], space))
            theirs += once(lambda block=block: add_bare(engine, bare, items[block], vectors[block]))
        name = f"add to the gallery, {size}, batches of {BATCH:,}"
        ratios = [Ratio(name, "bare LanceDB", N / ours, N / theirs, "items/s", more_is_better=True)]
        found = [[int(hit.id, 16) for hit in hits] for hits in gallery.search(queries, space, K)]
        assert found == brute_force(vectors, queries).tolist(), "not the exact neighbours"
        for name, batch in (("one exact query", queries[:1]), (f"{QUERIES} exact queries at once, each", queries)):
            query = bare[0].search(batch).distance_type("dot").limit(K).select(["id", "_distance"])
            peers = {"bare numpy": lambda batch=batch: brute_force(vectors, batch), "bare LanceDB": query.to_arrow}
            for peer, work in peers.items():
                pair = alternate(lambda batch=batch: gallery.search(batch, space, K), work, 10)
                mine, other = (1000 * each / len(batch) for each in pair)
                ratios.append(Ratio(f"{name}, {size}", peer, mine, other, "ms"))
    return ratios


def add_bare(
    engine: lancedb.DBConnection, bare: list[lancedb.table.Table], items: list[Item], vectors: np.ndarray
) -> None:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
    rows = pa.table({"id": [item.id for item in items], "vector": lists})
    if bare:
        bare[0].add(rows)
    else:
        bare.append(engine.create_table("bare", rows))


if __name__ == "__main__":
    show(measure())
