"""Throughput of a backfill compared with embedding alone, and latency of live searches during a backfill.

Drawn birds and an untrained network. Images per second of whole backfills (loading the network, checking the files,
commits, journal, audit) in this process, in two processes and on a local Ray cluster, compared with a bare loop of
`embed` over the same images in the same run; then the latency of searches in a separate process, alone and during a
backfill.

    python benchmarks/speed/backfill.py [--backbone test_resnet] [--images 1500] [--without-ray]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ratios import Ratio

from scrubjay.backfill import Backfill, Backfilled, Limits
from scrubjay.data.images import ImageOptions
from scrubjay.data.photos import content_hash
from scrubjay.data.sources.aviary import Aviary
from scrubjay.generations.generation import SessionRecord
from scrubjay.generations.lineage import Lineage
from scrubjay.io.journal import Journal
from scrubjay.methods import method
from scrubjay.models.embedder import Network, NetworkOptions
from scrubjay.models.embedding import Encoder, space_fingerprint
from scrubjay.stores import Item, Space, open_store
from scrubjay.types import Sample

IMAGES = ImageOptions(size=96, resize=112)
DIM = 64
SEARCHER = """
import sys, time
import numpy as np
from scrubjay.stores import Space, open_store

store, dim = open_store(sys.argv[1]), int(sys.argv[2])
space = next(space for space in store.spaces() if space.id == "g0")
queries = np.random.default_rng(0).standard_normal((200, 1, dim))
queries /= np.linalg.norm(queries, axis=2, keepdims=True)
store.search(space, queries[0], 10)
print("ready", flush=True)
times = []
for query in queries:
    began = time.perf_counter()
    store.search(space, query, 10)
    times.append(1000 * (time.perf_counter() - began))
    time.sleep(0.02)
print(*np.percentile(times, [50, 95, 100]))
"""


class Bench:
    """A gallery in a folder, whose items have vectors of g0 and are re-embedded by g1."""

    def __init__(self, folder: Path, backbone: str, samples: list[Sample]) -> None:
        self.folder, self.samples = folder, samples
        lineage, spaces = Lineage(folder / "generations"), []
        for _ in range(2):
            trained = method("finetune")(Network(NetworkOptions(backbone=backbone, pretrained=False, dim=DIM)))
            fingerprint = space_fingerprint(trained.network.embedder, IMAGES)
            generation = lineage.add(
                trained,
                SessionRecord(method={"name": "finetune"}, fingerprint=fingerprint, classes=(), seed=0, data_hash=""),
            )
            spaces.append(Space(generation.name, DIM, fingerprint, generation.name))
        self.embedder, (old, self.new) = lineage.network(generation).embedder, spaces
        self.url = f"lancedb://{folder / 'gallery'}"
        self.store = open_store(self.url)
        items = [Item(content_hash(sample), str(sample.path), content_hash(sample)) for sample in samples]
        self.order = [item.id for item in items]
        vectors = np.random.default_rng(0).standard_normal((len(items), DIM))
        self.store.put_items(items)
        self.store.create_space(old)
        self.store.put_embeddings(old, self.order, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    def bare(self) -> float:
        began = time.perf_counter()
        Encoder(self.embedder, IMAGES).embed(self.samples)
        return len(self.samples) / (time.perf_counter() - began)

    def backfill(self, limits: Limits) -> Backfilled:
        self.store.drop_space(self.new.id)
        journal = Journal(self.folder / "backfill" / "g1.jsonl")
        return Backfill(self.store, self.new, self.folder / "generations" / "g1", IMAGES, journal).run(
            self.order, limits
        )

    def searcher(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SEARCHER, self.url, str(DIM)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process


def latency(bench: Bench, limits: Limits | None) -> str:
    searcher = bench.searcher()
    rounds = 0
    while limits is not None and searcher.poll() is None:
        bench.backfill(Limits(**{**limits.to_json(), "until": lambda: searcher.poll() is not None}))
        rounds += 1
    p50, p95, worst = map(float, searcher.communicate()[0].split())
    return f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, slowest {worst:.1f} ms"


def measure(images: int = 600) -> list[Ratio]:
    samples = list(Aviary(species=60, train=-(-images // 60), test=0).load().samples[:images])
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), "test_resnet", samples)
        bench.bare()
        bench.backfill(Limits())
        pairs = [(bench.backfill(Limits()).images_per_second, bench.bare()) for _ in range(3)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    name = f"backfill of {images} images, a small network"
    return [Ratio(name, "bare loop of embedding", ours, theirs, "images/s", more_is_better=True)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="test_resnet")
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--without-ray", action="store_true")
    asked = parser.parse_args()
    samples = Aviary(species=60, train=-(-asked.images // 60), test=0).load().samples[: asked.images]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), asked.backbone, list(samples))
        bench.bare()
        loop = bench.bare()
        print(f"{len(samples)} images, {asked.backbone}; bare loop of embed(): {loop:.1f} images/s", flush=True)
        kinds = {"jobs 1": Limits(), "jobs 2": Limits(jobs=2), "Ray local, 2 actors": Limits(jobs=2, ray="local")}
        for name, limits in kinds.items():
            if limits.ray is None or not asked.without_ray:
                done = bench.backfill(limits)
                assert done.complete, done
                ratio = done.images_per_second / loop
                print(f"backfill, {name}: {done.images_per_second:.1f} images/s, ratio {ratio:.2f}", flush=True)
        print(f"search alone: {latency(bench, None)}", flush=True)
        for name, limits in {"jobs 1": Limits(), "jobs 2": Limits(jobs=2), "rate 20": Limits(rate=20)}.items():
            print(f"search during a backfill, {name}: {latency(bench, limits)}", flush=True)


if __name__ == "__main__":
    main()
