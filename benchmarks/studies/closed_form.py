"""Learning in closed form: does the order of sessions matter, what does a removal leave, what does alignment keep?

    python benchmarks/studies/closed_form.py recipes/aviary.toml
    python benchmarks/studies/closed_form.py recipes/grocery.toml --set source.root=GROCERY

One pass over the training images gives the statistics of every class; everything after that is linear algebra.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scrubjay.closed_form.discriminant import Projection, aligned, solve
from scrubjay.closed_form.selection import DEFAULTS
from scrubjay.closed_form.statistics import Statistics
from scrubjay.data.loading import Cache, ImageLoader, with_views
from scrubjay.data.stream import Stream
from scrubjay.evaluation.retrieval import evaluate_query_gallery
from scrubjay.experiments.options import ExperimentOptions, load_stream, make_method
from scrubjay.experiments.recipe import read
from scrubjay.models.embedder import Embedder
from scrubjay.types import Sample

VIEWS = 4
DIM = 512


class Features:
    """Trunk features of a stream's images, float16 as they are accumulated.

    Attributes:
        train: (N, 1 + VIEWS, p); the centre crop comes first.
        train_labels: int64 (N,).
        test: (M, p).
        test_labels: int64 (M,).
    """

    def __init__(self, embedder: Embedder, options: ExperimentOptions, stream: Stream) -> None:
        train = [sample for session in stream.sessions for sample in session.train]
        test = [sample for session in stream.sessions for sample in session.test]
        self.train, self.train_labels = features(embedder, options, train, VIEWS)
        crops, self.test_labels = features(embedder, options, test, 0)
        self.test = crops[:, 0]

    def statistics(self, chosen: Tensor) -> Statistics:
        """Statistics of the training images for which `chosen`, bool (N,), is True."""
        rows = self.train[chosen]
        return Statistics.of("era", rows.flatten(0, 1), self.train_labels[chosen].repeat_interleave(1 + VIEWS))


@torch.inference_mode()
def features(
    embedder: Embedder, options: ExperimentOptions, samples: Sequence[Sample], views: int
) -> tuple[Tensor, Tensor]:
    loader = ImageLoader(samples, options.images, train=False, cache=Cache(0))
    found, labels = [], []
    for batch in with_views(loader, views, 64):
        found.append(embedder.features(batch.images).half())
        labels.append(batch.labels)
    return torch.cat(found).unflatten(0, (-1, 1 + views)).clone(), torch.cat(labels)[:: 1 + views].clone()


def metric(statistics: Statistics) -> Projection:
    return solve(statistics, DEFAULTS.shrinkage(statistics), DIM).projection(DEFAULTS.residual, DIM)


def embed(projection: Projection, rows: Tensor) -> Tensor:
    return F.normalize(projection(rows), dim=1)


def largest_difference(one: Projection, other: Projection, rows: Tensor) -> float:
    """Largest difference of the cosine of any two images between two metrics."""
    a, b = embed(one, rows), embed(other, rows)
    return float((a @ a.T - b @ b.T).abs().max())


def orders(data: Features, stream: Stream, number: int) -> float:
    sessions = [data.statistics(torch.isin(data.train_labels, torch.tensor(s.labels))) for s in stream.sessions]
    generator = np.random.default_rng(0)
    metrics = []
    for order in [range(len(sessions)), *(generator.permutation(len(sessions)) for _ in range(number))]:
        total = sessions[order[0]]
        for index in order[1:]:
            total = total + sessions[index]
        metrics.append(metric(total))
    return max(largest_difference(metrics[0], other, data.test) for other in metrics[1:])


def removals(data: Features, number: int) -> tuple[float, float]:
    """Largest difference to never having seen a class, and to never having seen an image."""
    everything = data.statistics(torch.ones(len(data.train_labels), dtype=torch.bool))
    generator = np.random.default_rng(0)
    classes, images = 0.0, 0.0
    for _ in range(number):
        label = int(generator.integers(int(data.train_labels.max()) + 1))
        gone = data.train_labels == label
        removed, never = metric(everything - data.statistics(gone)), metric(data.statistics(~gone))
        classes = max(classes, largest_difference(removed, never, data.test))
        gone = torch.zeros(len(gone), dtype=torch.bool)
        gone[int(generator.integers(len(gone)))] = True
        removed, never = metric(everything - data.statistics(gone)), metric(data.statistics(~gone))
        images = max(images, largest_difference(removed, never, data.test))
    return classes, images


def old_gallery(data: Features, stream: Stream) -> None:
    """New queries on the first session's gallery: its own queries, aligned, not aligned, re-projected."""
    first = torch.isin(data.train_labels, torch.tensor(stream.sessions[0].labels))
    asked = torch.isin(data.test_labels, torch.tensor(stream.sessions[0].labels))
    total = data.statistics(first)
    own = current = plain = metric(total)
    for session in stream.sessions[1:]:
        total = total + data.statistics(torch.isin(data.train_labels, torch.tensor(session.labels)))
        plain = metric(total)
        width = max(len(plain.bias), len(current.bias))
        current = aligned(plain, padded(current, width), total)
    gallery, labels = data.train[first, 0], data.train_labels[first].numpy()
    for name, queries, items in (
        ("its own queries", own, own),
        ("aligned queries", current, padded(own, len(current.bias))),
        ("queries that are not aligned", padded(plain, DIM), padded(own, DIM)),
        ("gallery re-projected", plain, plain),
    ):
        scores = evaluate_query_gallery(
            embed(queries, data.test[asked]).float().numpy(),
            data.test_labels[asked].numpy(),
            embed(items, gallery).float().numpy(),
            labels,
        )
        print(f"  {name:30} mAP@R {scores.map_at_r:.1%}, recall@1 {scores.recall[1]:.1%}")


def padded(projection: Projection, width: int) -> Projection:
    missing = width - len(projection.bias)
    return Projection(F.pad(projection.weight, (0, 0, 0, missing)), F.pad(projection.bias, (0, missing)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, nargs="?", default=Path("recipes/aviary.toml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set an option of the recipe")
    parser.add_argument("--orders", type=int, default=10, help="number of random orders, and of removals")
    arguments = parser.parse_args()
    options = ExperimentOptions.parse(read(arguments.recipe, [*arguments.set, "method.name=slda"]))
    stream, _ = load_stream(options)
    data = Features(make_method(options).network.eval().embedder, options, stream)
    print(f"{options.name}: {len(data.train_labels)} training images, {data.test.shape[1]} features, one seed")
    difference = orders(data, stream, arguments.orders)
    print(f"{arguments.orders} random orders of sessions: cosines differ by at most {difference:.1e}")
    classes, images = removals(data, arguments.orders)
    print(f"{arguments.orders} classes removed: cosines differ from never having seen them by at most {classes:.1e}")
    print(f"{arguments.orders} single images removed: by at most {images:.1e}")
    print("old gallery, first session's test images:")
    old_gallery(data, stream)


if __name__ == "__main__":
    main()
