"""Time and peak memory of the retrieval metrics, compared with those of other libraries.

N images search each other: random unit vectors of 1,000 overlapping classes. The peers are

* pytorch-metric-learning's `AccuracyCalculator` for the metrics of a small neighbourhood (recall@1, mAP@R), with as
  many neighbours as the largest class has (`k="max_bin_count"`, its cheapest setting), with faiss, its default, and
  with its own `CustomKNN` in batches; and for the metrics of the whole ranking (mAP), with `k=None`;
* torchmetrics' `retrieval_average_precision`, query by query, for mAP, with scores above 0, which it requires;
* a bare blocked float32 matrix product with `torch.topk`, which computes no metric: the floor.

scrubjay computes all metrics every time. Each measurement runs in its own process, where a small evaluation has loaded
everything, and the processes of the two that are compared take turns: medians of the seconds, and the growth of the
peak resident size since before the evaluation. Where figures differ by more than 1e-4, the benchmark fails.

    python benchmarks/speed/evaluation.py [--n 20000 --dim 128 --map-n 10000 --rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from ratios import Ratio, show

THREADS = 2
SMALL = ("precision_at_1", "mean_average_precision_at_r")
NAMES = {"precision_at_1": "recall@1", "mean_average_precision_at_r": "mAP@R", "mean_average_precision": "mAP"}
Evaluate = Callable[[np.ndarray, np.ndarray], dict[str, float]]


def data(n: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 1000, n)
    centres = random.standard_normal((1000, dim), dtype=np.float32)
    vectors = centres[labels] + 2.0 * random.standard_normal((n, dim), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def scrubjay() -> Evaluate:
    from scrubjay.evaluation.retrieval import evaluate_self

    def evaluate(vectors: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        scores = evaluate_self(vectors, labels)
        return {"recall@1": scores.recall[1], "mAP@R": scores.map_at_r, "mAP": scores.map}

    return evaluate


def calculator(include: tuple[str, ...], k: str | None, batch: int | None = None) -> Evaluate:
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

    def evaluate(vectors: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return {NAMES[name]: value for name, value in peer.get_accuracy(vectors, labels).items()}

    return evaluate


def torchmetrics() -> Evaluate:
    import torch

    from scrubjay import _compat

    average_precision = _compat.load("torchmetrics.functional.retrieval").retrieval_average_precision
    torch.set_num_threads(THREADS)

    def evaluate(vectors: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        gallery, classes = torch.from_numpy(vectors), torch.from_numpy(labels)
        precisions = []
        for query in range(len(gallery)):
            others = torch.arange(len(gallery)) != query
            relevant = (classes == classes[query])[others]
            if relevant.any():
                precisions.append(average_precision(1 + (gallery @ gallery[query])[others], relevant))
        return {"mAP": float(torch.stack(precisions).mean())}

    return evaluate


def floor() -> Evaluate:
    import torch

    torch.set_num_threads(THREADS)

    def evaluate(vectors: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        gallery, k = torch.from_numpy(vectors), int(np.bincount(labels).max())
        for start in range(0, len(gallery), 1024):
            torch.topk(gallery[start : start + 1024] @ gallery.T, k)
        return {}

    return evaluate


CONTENDERS: dict[str, Callable[[], Evaluate]] = {
    "scrubjay": scrubjay,
    "pytorch-metric-learning, faiss": lambda: calculator(SMALL, "max_bin_count"),
    "pytorch-metric-learning, CustomKNN": lambda: calculator(SMALL, "max_bin_count", 256),
    "pytorch-metric-learning, k=None": lambda: calculator((*SMALL, "mean_average_precision"), None),
    "torchmetrics": torchmetrics,
    "bare matrix product and top-k, no metrics": floor,
}


def child(name: str, n: int, dim: int) -> None:
    """One evaluation in this process; prints its seconds, MiB and figures as JSON."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    evaluate = CONTENDERS[name]()
    evaluate(*data(500, dim))
    vectors, labels = data(n, dim)
    resource.setrlimit(resource.RLIMIT_DATA, (int(0.9 * free), resource.RLIM_INFINITY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    figures = evaluate(vectors, labels)
    taken = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"seconds": taken, "MiB": peak, "figures": figures}))


def run(name: str, n: int, dim: int) -> dict:
    command = [sys.executable, __file__, "--child", name, "--n", str(n), "--dim", str(dim)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {(done.stderr.splitlines() or ['no message'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(what: str, peer: str, n: int, dim: int, rounds: int) -> list[Ratio]:
    """Seconds and memory of scrubjay and a peer, whose processes take turns."""
    ours, theirs = zip(*[(run("scrubjay", n, dim), run(peer, n, dim)) for _ in range(rounds)], strict=True)
    for figure, value in theirs[0]["figures"].items():
        if abs(value - ours[0]["figures"][figure]) > 1e-4:
            raise AssertionError(f"{figure}: scrubjay {ours[0]['figures'][figure]:.6f}, {peer} {value:.6f}")
    size = f"{n:,} x {n:,} x {dim}"
    median = [statistics.median(each["seconds"] for each in runs) for runs in (ours, theirs)]
    most = [max(each["MiB"] for each in runs) for runs in (ours, theirs)]
    return [
        Ratio(f"{what}, {size}", peer, median[0], median[1], "s"),
        Ratio(f"memory of {what}, {size}", peer, most[0], most[1], "MiB"),
    ]


def measure(n: int = 20_000, dim: int = 128, map_n: int = 10_000, rounds: int = 3) -> list[Ratio]:
    faiss, custom, whole, lightning, bare = list(CONTENDERS)[1:]
    return [
        *compare("recall@1 and mAP@R (ours: mAP too)", faiss, n, dim, rounds),
        *compare("recall@1 and mAP@R (ours: mAP too)", custom, n, dim, 1),
        *compare("recall@1 and mAP@R (ours: mAP too)", bare, n, dim, rounds),
        *compare("mAP of the whole ranking", whole, map_n, dim, 1),
        *compare("mAP of the whole ranking", lightning, 2_000, dim, 1),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--map-n", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.n, options.dim)
    else:
        show(measure(options.n, options.dim, options.map_n, options.rounds))


if __name__ == "__main__":
    main()
