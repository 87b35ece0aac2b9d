"""Seconds of adding, searching, evaluating, backfilling and learning at growing sizes.

    python benchmarks/speed/curve.py

Adding and one search use random vectors and the default store; the evaluation is that of
`benchmarks/speed/evaluation.py`; the backfill re-embeds drawn birds with an untrained small network, as in
`benchmarks/speed/backfill.py`; learning is the accumulation of trunk features and the closed-form solution, without the
forward passes, which grow linearly and are measured by `benchmarks/speed/throughput.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from ratios import Cost, figure, seconds

from backfill import Bench
from evaluation import data
from scrubjay.backfill import Limits
from scrubjay.closed_form.discriminant import solve
from scrubjay.closed_form.statistics import Accumulator
from scrubjay.data.sources.aviary import Aviary
from scrubjay.evaluation.retrieval import evaluate_self
from scrubjay.gallery.gallery import Gallery
from scrubjay.stores import Item, Space, open_store
from scrubjay.types import Sample

SIZES = (1_000, 3_000, 10_000, 30_000)
IMAGES = (100, 300, 1_000)
DIM, FEATURES, CLASSES, BATCH = 256, 512, 100, 1_000


def unit(count: int, dim: int) -> np.ndarray:
    vectors = np.random.default_rng(0).standard_normal((count, dim), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def gallery_costs(n: int) -> Iterator[Cost]:
    vectors, space = unit(n, DIM), Space("g0", DIM, "benchmark", "g0")
    items = [Item(f"{row:032x}", f"{row}.jpg", f"{row:032x}", str(row % CLASSES)) for row in range(n)]
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery(open_store(f"lancedb://{Path(folder) / 'gallery'}"))
        starts = range(0, n, BATCH)
        yield Cost(
            "add",
            n,
            seconds(lambda: [gallery.add(items[s : s + BATCH], vectors[s : s + BATCH], space) for s in starts]),
        )
        gallery.search(vectors[:1], space, 10)
        yield Cost("one search", n, min(seconds(lambda: gallery.search(vectors[:1], space, 10)) for _ in range(10)))


def backfill_cost(samples: list[Sample]) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        gallery = Bench(Path(folder), "test_resnet", samples)
        return Cost("backfill, images", len(samples), seconds(lambda: gallery.backfill(Limits())))


def learning_cost(n: int) -> Cost:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n, FEATURES, generator=generator).half()
    labels = torch.randint(CLASSES, (n,), generator=generator)

    def learn() -> None:
        accumulator = Accumulator("benchmark", FEATURES)
        accumulator.add(features, labels)
        solve(accumulator.statistics(), 0.1, 64)

    learn()
    return Cost("learning in closed form, from features", n, seconds(learn))


def curve(sizes: tuple[int, ...] = SIZES) -> list[Cost]:
    costs = []
    for n in sizes:
        vectors, labels = data(n, 128)
        costs += [*gallery_costs(n), Cost("evaluation", n, seconds(lambda v=vectors, la=labels: evaluate_self(v, la)))]
        costs.append(learning_cost(n))
    samples = list(Aviary(species=60, train=-(-max(IMAGES) // 60), test=0).load().samples)
    return [*costs, *(backfill_cost(samples[:n]) for n in IMAGES)]


if __name__ == "__main__":
    for cost in curve():
        print(f"{cost.work}, {cost.n:,}: {figure(cost.seconds)} s", flush=True)
