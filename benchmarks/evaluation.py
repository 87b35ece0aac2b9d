"""Time and peak memory of the retrieval metrics compared with pytorch-metric-learning's `AccuracyCalculator`.

N images search each other: random unit vectors of 1,000 overlapping classes. Two comparisons:

* metrics of a small neighbourhood (recall@1, mAP@R): the other library with as many neighbours as the largest class has
  (`k="max_bin_count"`, its cheapest setting), with faiss, its default, and with its own `CustomKNN` in batches;
* metrics of the whole ranking (mAP): the other library with `k=None`, at the full size if that fits the free memory,
  and at a size that should fit (`--map-n`).

scrubjay computes all metrics every time and does not need faiss, which the extra `bench` installs (`make bench`);
without it the row says so. Every measurement runs in its own process: the best time of three runs, and the growth of
the peak resident size since before the first run, when libraries and data are already loaded.

    python benchmarks/evaluation.py [--n 20000 --dim 128 --map-n 10000]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

THREADS = 2
SMALL = ("precision_at_1", "mean_average_precision_at_r")
PEERS = {
    "scrubjay": {},
    "AccuracyCalculator, faiss": {"include": SMALL, "k": "max_bin_count"},
    "AccuracyCalculator, CustomKNN": {"include": SMALL, "k": "max_bin_count", "batch": 256},
    "AccuracyCalculator, whole ranking": {"include": (*SMALL, "mean_average_precision"), "k": None},
}


def data(n: int, dim: int):
    import numpy as np

    random = np.random.default_rng(0)
    labels = random.integers(0, 1000, n)
    centres = random.standard_normal((1000, dim), dtype=np.float32)
    vectors = centres[labels] + 2.0 * random.standard_normal((n, dim), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def ours():
    from scrubjay.evaluation.retrieval import evaluate_self

    def evaluate(vectors, labels) -> dict[str, float]:
        scores = evaluate_self(vectors, labels)
        return {"recall@1": scores.recall[1], "mAP@R": scores.map_at_r, "mAP": scores.map}

    return evaluate


def theirs(include: tuple[str, ...], k: str | None, batch: int | None = None):
    import torch
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    torch.set_num_threads(THREADS)
    if batch is None:
        import faiss

        faiss.omp_set_num_threads(THREADS)
    knn = CustomKNN(CosineSimilarity(), batch_size=batch) if batch else None
    peer = AccuracyCalculator(include=include, k=k, device=torch.device("cpu"), knn_func=knn)
    names = {"precision_at_1": "recall@1", "mean_average_precision_at_r": "mAP@R", "mean_average_precision": "mAP"}

    def evaluate(vectors, labels) -> dict[str, float]:
        return {names[name]: value for name, value in peer.get_accuracy(vectors, labels).items()}

    return evaluate


def child(name: str, n: int, dim: int, runs: int) -> dict[str, object]:
    import resource
    import time

    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        evaluate = theirs(**PEERS[name]) if PEERS[name] else ours()
    except ModuleNotFoundError as error:
        return {"failed": f"not run: {error}"}
    vectors, labels = data(n, dim)
    resource.setrlimit(resource.RLIMIT_DATA, (int(0.9 * free), resource.RLIM_INFINITY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    try:
        for _ in range(runs):
            start = time.perf_counter()
            figures = evaluate(vectors, labels)
            seconds.append(time.perf_counter() - start)
    except (MemoryError, RuntimeError) as error:
        return {"failed": f"stopped at {0.9 * free / 2**30:.0f} GiB: {str(error).splitlines()[0][:60]}"}
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": min(seconds), "MiB": peak, "figures": figures}


def measure(name: str, n: int, dim: int, runs: int) -> dict:
    command = [sys.executable, __file__, "--child", name, "--n", str(n), "--dim", str(dim), "--runs", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": f"ended with {done.returncode}: {(done.stderr.splitlines() or ['no message'])[-1]}"}
    return json.loads(done.stdout.splitlines()[-1])


def compare(names: list[str], n: int, dim: int, runs: int) -> None:
    print(f"\n{n:,} x {n:,} x {dim}")
    reference: dict = {}
    for name in names:
        result = measure(name, n, dim, runs)
        if "failed" in result:
            print(f"  {name:34} {result['failed']}")
            continue
        reference = reference or result
        figures = "  ".join(f"{key} {value:.6f}" for key, value in result["figures"].items())
        print(f"  {name:34} {result['seconds']:8.2f} s {result['MiB']:9.0f} MiB   {figures}")
        if result is not reference:
            apart = max(abs(value - reference["figures"][key]) for key, value in result["figures"].items())
            times = result["seconds"] / reference["seconds"]
            memory = result["MiB"] / reference["MiB"]
            print(f"  {'':34} {times:8.2f} x {memory:9.1f} x     of {names[0]}; figures differ by at most {apart:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--map-n", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.n, options.dim, options.runs)))
        return
    first, faiss, custom, whole = PEERS
    compare([first, faiss, custom], options.n, options.dim, options.runs)
    for n in (options.map_n, options.n):
        compare([first, whole], n, options.dim, 1)


if __name__ == "__main__":
    main()
