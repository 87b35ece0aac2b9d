"""Speed, recall and memory of the default store with a large gallery.

python benchmarks/speed/million.py --rows 1000000
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import IvfRq

from scrubjay.generations.serving import ServingFile
from scrubjay.stores import Item, Space, Store, open_store
from scrubjay.stores import _lance_index as index
from scrubjay.stores.lancedb import LanceStore

BATCH, QUERIES, SINGLE, K, CLASSES, SPREAD = 10_000, 256, 100, 10, 1_000, 1.5
REOPEN = """
import sys, time
import numpy as np
from scrubjay.stores import Space, open_store
start = time.perf_counter()
store = open_store(sys.argv[1])
store.search(Space("g0", int(sys.argv[2]), "benchmark", "g0"), np.load(sys.argv[3])[:1], 10)
print(time.perf_counter() - start)
"""


def unit(count: int, dim: int, seed: int) -> np.ndarray:
    """Unit vectors of overlapping classes: a centre of unit norm plus Gaussian noise of norm 1.5."""
    generator, centres = np.random.default_rng(seed), np.random.default_rng(0).standard_normal((CLASSES, dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    noise = generator.standard_normal((count, dim), dtype=np.float32) * np.float32(SPREAD / dim**0.5)
    vectors = centres.astype(np.float32)[generator.integers(CLASSES, size=count)] + noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def batches(rows: int, dim: int) -> Iterator[tuple[list[str], np.ndarray]]:
    for number, first in enumerate(range(0, rows, BATCH)):
        count = min(BATCH, rows - first)
        yield [f"{row:064x}" for row in range(first, first + count)], unit(count, dim, 2 + number)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def times(searches: Sequence[Callable[[Any], object]], queries: np.ndarray) -> list[np.ndarray]:
    """Milliseconds of each query (columns) by each search (rows)."""
    return 1000 * np.array([[seconds(lambda s=s, q=q: s(q)) for q in queries[:SINGLE]] for s in searches])


def resident() -> float:
    """Resident size of this process in megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def ours(store: Store, space: Space, rows: int) -> None:
    store.create_space(space)
    spent = 0.0
    for ids, vectors in batches(rows, space.dim):
        items = [Item(name, f"{name}.jpg", name, str(int(name, 16) % CLASSES)) for name in ids]
        spent += seconds(lambda items=items: store.put_items(items))
        spent += seconds(lambda ids=ids, vectors=vectors: store.put_embeddings(space, ids, vectors))
    print(f"scrubjay: add, batches of {BATCH:,}: {rows / spent:,.0f}/s", flush=True)
    print(f"scrubjay: maintain, with the index: {seconds(store.maintain):.1f} s", flush=True)


def bare(folder: Path, rows: int, dim: int) -> Any:
    table, spent = None, 0.0
    for ids, vectors in batches(rows, dim):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)
        block = pa.table({"id": ids, "vector": lists})
        start = time.perf_counter()
        if table is None:
            table = lancedb.connect(folder).create_table("bare", block)
        else:
            table.add(block)
        spent += time.perf_counter() - start
    print(f"bare lancedb: add: {rows / spent:,.0f}/s", flush=True)
    config = IvfRq(distance_type="dot", num_bits=4, num_partitions=max(1, rows // 1024))
    print(
        f"bare lancedb: index: {seconds(lambda: (table.optimize(), table.create_index('vector', config=config))):.1f} s"
    )
    return table


def promotion(folder: Path) -> None:
    serving, spent = ServingFile(folder), []
    for turn in range(20):
        verb, name = ("rollback", "g0") if turn % 2 else ("promote", "g1")
        spent.append(seconds(lambda verb=verb, name=name, turn=turn: serving.change(verb, name, turn)))
    print(f"promote or roll back: {statistics.median(spent) * 1000:.2f} ms, independent of the size")


def measure(rows: int, dim: int, folder: Path) -> None:
    url, space, queries = f"lancedb://{folder}/gallery", Space("g0", dim, "benchmark", "g0"), unit(QUERIES, dim, 1)
    ours(open_store(url), space, rows)
    table = bare(folder / "bare", rows, dim)
    store = open_store(url)
    assert isinstance(store, LanceStore)
    measured = index.read_index(store._embeddings("g0"))
    probes = measured.probes if measured else 1
    print(f"index: {measured}")

    def engine(batch: np.ndarray) -> Any:
        search = table.search(batch).distance_type("dot").limit(K).nprobes(probes).refine_factor(4)
        return search.select(["id", "_distance"]).to_arrow()

    np.save(folder / "queries.npy", queries)
    found = [[item.id for item, _ in answer] for answer in store.search(space, queries, K)]
    print(f"memory after a batched search: {resident():,.0f} MB")
    first = engine(queries)
    theirs = [first["id"].filter(pa.compute.equal(first["query_index"], row)).to_pylist() for row in range(QUERIES)]
    by_store, by_engine = times([lambda q: store.search(space, q[None], K), engine], queries)
    for name, milliseconds in (("scrubjay", by_store), ("bare lancedb", by_engine)):
        print(f"{name}: one query: p50 {np.median(milliseconds):.1f} ms, p95 {np.percentile(milliseconds, 95):.1f} ms")
    print(f"ratio of the medians: {np.median(by_store) / np.median(by_engine):.2f}")
    turns = [(seconds(lambda: store.search(space, queries, K)), seconds(lambda: engine(queries))) for _ in range(3)]
    batched, engines = np.median(np.array(turns), axis=0) * 1000 / QUERIES
    print(
        f"{QUERIES} queries at once: {batched:.2f} ms each; bare lancedb {engines:.2f}; ratio {batched / engines:.2f}"
    )
    start = time.perf_counter()
    exact = [[item.id for item, _ in answer] for answer in store.search(space, queries, K, exact=True)]
    print(f"exact, {QUERIES} queries at once: {(time.perf_counter() - start) * 1000 / QUERIES:.2f} ms each")
    for name, answers in (("scrubjay", found), ("bare lancedb", theirs)):
        shares = [len(set(one) & set(other)) / len(other) for one, other in zip(answers, exact, strict=True)]
        print(f"{name}: recall@{K} {np.mean(shares):.4f}")
    print(f"coverage by a newly opened store: {seconds(lambda: open_store(url).coverage(space)):.2f} s")
    command = [sys.executable, "-c", REOPEN, url, str(dim), str(folder / "queries.npy")]
    reopened = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    print(f"reopened in a new process and searched once: {float(reopened):.2f} s")
    print(f"disk: {megabytes(folder / 'gallery'):,.0f} MB; bare lancedb {megabytes(folder / 'bare'):,.0f} MB")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:,.0f} MB")
    promotion(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=256)
    options = parser.parse_args()
    print(f"{options.rows:,} vectors of {options.dim} dimensions")
    with tempfile.TemporaryDirectory() as folder:
        measure(options.rows, options.dim, Path(folder))


if __name__ == "__main__":
    main()
