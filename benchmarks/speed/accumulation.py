"""Accumulation of statistics over a stream of feature vectors that are drawn block by block, and never held together.

The vectors are a class mean plus noise of 32 directions and noise of single features, rounded to float16 as trunk
features are. Printed: vectors a second, without the time that drawing them takes; the bytes of the statistics in memory
and on disk; the relative difference of the sum from that of two halves; and seconds of one solution.

    python benchmarks/speed/accumulation.py [--rows 1000000] [--dim 4128] [--classes 1000] [--threads 2]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from scrubjay.closed_form.discriminant import solve
from scrubjay.closed_form.statistics import BLOCK, Accumulator, Statistics

DIRECTIONS = 32


def blocks(rows: int, dim: int, classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(classes, dim, generator=generator)
    shared = torch.randn(DIRECTIONS, dim, generator=generator)
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        labels = torch.randint(classes, (count,), generator=generator)
        noise = torch.randn(count, dim, generator=generator)
        noise += torch.randn(count, DIRECTIONS, generator=generator) @ shared
        yield (means[labels] + noise).half(), labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=4128)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    parts = [Accumulator("benchmark", options.dim) for _ in range(2)]
    total = Accumulator("benchmark", options.dim)
    wall = cpu = seen = 0.0
    for number, (features, labels) in enumerate(blocks(options.rows, options.dim, options.classes)):
        began, began_cpu = time.perf_counter(), time.process_time()
        total.add(features, labels)
        wall, cpu = wall + time.perf_counter() - began, cpu + time.process_time() - began_cpu
        if number < 4:
            parts[number % 2].add(features, labels)
        if number == min(3, -(-options.rows // BLOCK) - 1):
            compare(total.statistics(), parts[0].statistics() + parts[1].statistics())
        seen += len(labels)
        if number % 20 == 0:
            print(f"{seen:.0f} vectors: {seen / wall:.0f} a second, {seen / cpu:.0f} a CPU second", flush=True)
    report(total.statistics(), wall, cpu)


def compare(whole: Statistics, halves: Statistics) -> None:
    difference = float((whole.scatter - halves.scatter).norm() / whole.scatter.norm())
    print(f"relative difference of the scatter from that of two halves, merged: {difference:.1e}")


def report(statistics: Statistics, wall: float, cpu: float) -> None:
    rows = statistics.total
    memory = sum(value.nbytes for value in (statistics.scatter, statistics.means, statistics.counts, statistics.labels))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "statistics.safetensors"
        statistics.save(path)
        size = path.stat().st_size
    began, began_cpu = time.perf_counter(), time.process_time()
    solve(statistics, 0.1, 512)
    seconds, seconds_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{rows} vectors of {statistics.dim} features, {len(statistics.labels)} classes: {wall:.1f} s "
        f"({rows / wall:.0f} a second), {cpu:.1f} CPU seconds ({rows / cpu:.0f} a CPU second); statistics "
        f"{memory / 1e6:.0f} MB in memory, {size / 1e6:.0f} MB on disk; peak memory {peak / 1e6:.0f} MB; "
        f"one solution {seconds:.1f} s ({seconds_cpu:.1f} CPU seconds)"
    )


if __name__ == "__main__":
    main()
