"""Overhead of the gallery over bare LanceDB and over a bare matrix product: `python benchmarks/gallery.py`."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable

import lancedb
import numpy as np
import pyarrow as pa

from scrubjay.gallery.gallery import Gallery
from scrubjay.stores import Item, Space, open_store

N, DIM, BATCH, QUERIES, K = 10_000, 512, 1_000, 256, 10


def seconds(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def unit(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute_force(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    scores = queries @ vectors.T
    best = np.argpartition(scores, -K, axis=1)[:, -K:]
    return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1), 1)


def main() -> None:
    vectors, queries, space = unit(N, 0), unit(QUERIES, 1), Space("g0", DIM, "benchmark", "g0")
    items = [Item(f"{row:064x}", f"{row}.jpg", f"{row:064x}", str(row % 100)) for row in range(N)]
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery(open_store(f"lancedb://{folder}/gallery"))
        engine = lancedb.connect(f"{folder}/bare")
        bare: list[lancedb.table.Table] = []

        start = time.perf_counter()
        for first in range(0, N, BATCH):
            gallery.add(items[first : first + BATCH], vectors[first : first + BATCH], space)
        ours = time.perf_counter() - start
        start = time.perf_counter()
        for first in range(0, N, BATCH):
            ids = [item.id for item in items[first : first + BATCH]]
            lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors[first : first + BATCH].ravel()), DIM)
            rows = pa.table({"id": ids, "vector": lists})
            if bare:
                bare[0].add(rows)
            else:
                bare.append(engine.create_table("bare", rows))
        theirs = time.perf_counter() - start
        print(
            f"add, batches of {BATCH}: {N / ours:,.0f}/s; bare lancedb {N / theirs:,.0f}/s; ratio {theirs / ours:.2f}"
        )

        found = [[int(hit.id, 16) for hit in hits] for hits in gallery.search(queries, space, K)]
        assert found == brute_force(vectors, queries).tolist(), "not the exact neighbours"
        for name, batch in (("one query", queries[:1]), (f"{QUERIES} queries", queries)):
            ours = seconds(lambda batch=batch: gallery.search(batch, space, K), 20)
            numpy = seconds(lambda batch=batch: brute_force(vectors, batch), 20)
            query = bare[0].search(batch).distance_type("dot").limit(K).select(["id", "_distance"])
            theirs = seconds(query.to_arrow, 5)
            each = 1000 / len(batch)
            print(
                f"search, {name}: {ours * each:.3f} ms per query; numpy {numpy * each:.3f}, ratio {ours / numpy:.2f}; "
                f"bare lancedb {theirs * each:.3f}, ratio {ours / theirs:.2f}"
            )


if __name__ == "__main__":
    main()
