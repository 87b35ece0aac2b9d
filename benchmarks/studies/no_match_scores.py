"""Scores that tell images of classes never learned from images of learned classes, compared.

    python benchmarks/studies/no_match_scores.py aviary [--splits 20] [--seed 1000]
    python benchmarks/studies/no_match_scores.py grocery [--splits 20]

Splits, images and metric are those of `benchmarks/studies/no_match.py`: 34 learned and 8 other classes of the drawn
birds, 14 and 10 of the groceries. Queries are all test images; the gallery is the training images of the learned
classes. No threshold is computed: AUROC, and the share of images of learned classes above the threshold that 5 % of
the others exceed. Every score is higher for learned classes.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from no_match import RATE, SIZES, Learned, Photos
from scipy.stats import mannwhitneyu
from torch import Tensor

from scrubjay.closed_form.discriminant import cholesky, shrunk_covariance
from scrubjay.closed_form.no_match import ClassModel, covariance_root
from scrubjay.data.sources.aviary import Aviary
from scrubjay.data.sources.grocery import Grocery

NEAREST = 5


def nearest(queries: Tensor, items: Tensor, number: int = NEAREST) -> Tensor:
    """Mean cosine of the nearest items."""
    return (F.normalize(queries, dim=1) @ F.normalize(items, dim=1).T).topk(number, 1).values.mean(1)


def scores(learned: Learned, queries: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Names and scores (Q,) of trunk features (Q, p)."""
    queries, items = queries.double(), learned.photos.crops[learned.rows, 0].double()
    yield "raw cosine, 5 nearest items", nearest(queries, items)
    statistics = learned.statistics
    root = cholesky(shrunk_covariance(statistics, learned.shrinkage))
    centre = statistics.means.mean(0)
    x, g, m = (
        torch.linalg.solve_triangular(root, (rows - centre).T, upper=False).T
        for rows in (queries, items, statistics.means)
    )
    yield "whitened cosine, 5 nearest items", nearest(x, g)
    axes = torch.linalg.svd(m, full_matrices=False).Vh[:-1].T
    z, gz, mz = x @ axes, g @ axes, m @ axes
    yield "discriminant cosine, nearest item", nearest(z, gz, 1)
    yield "discriminant cosine, 5 nearest items", nearest(z, gz)
    yield "discriminant cosine, nearest class mean", nearest(z, mz, 1)
    yield "discriminant distance, nearest item", -torch.cdist(z, gz).amin(1)
    distances = torch.cdist(z, mz).square()
    outside = x.square().sum(1) - z.square().sum(1)
    yield "Mahalanobis distance", -(distances.amin(1) + outside)
    yield "distance outside the discriminant axes", -outside
    yield "norm in the discriminant axes", z.norm(dim=1)
    yield "largest logit", (z @ mz.T - mz.square().sum(1) / 2).amax(1)
    yield "discriminant distance, nearest class mean", -distances.amin(1)
    variances = mz.T @ mz / len(mz)
    for spread in (1.0, 0.1):
        background = torch.linalg.inv(torch.eye(len(variances), dtype=torch.float64) + spread * variances)
        yield (
            f"relative Mahalanobis distance, τ = {spread:g}",
            ((z @ background) * z).sum(1) - distances.amin(1),
        )
    default = ClassModel.of(statistics, covariance_root(statistics, learned.shrinkage)).scores(queries).amax(1)
    yield "relative Mahalanobis distance, τ = 0.3 (the default)", default
    ranks = [torch.argsort(torch.argsort(each)) for each in (default, nearest(z, gz))]
    yield "ranks of the default and of the discriminant cosine, added", (ranks[0] + ranks[1]).double()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="aviary", choices=SIZES)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1000)
    arguments = parser.parse_args()
    dataset = (Aviary(species=60) if arguments.source == "aviary" else Grocery()).load()
    photos, (number, others) = Photos.of(dataset), SIZES[arguments.source]
    figures = defaultdict(list)
    for split in range(arguments.splits):
        order = np.random.default_rng(arguments.seed + split).permutation(len(dataset.classes)).tolist()
        learned = Learned(photos, torch.arange(len(photos.labels)), sorted(order[:number]))
        kept = torch.isin(photos.test_labels, torch.tensor(order[: number + others]))
        known = torch.isin(photos.test_labels[kept], torch.tensor(learned.classes)).numpy()
        for name, values in scores(learned, photos.tests[kept]):
            score = values.numpy()
            oracle = (score[known] > np.quantile(score[~known], 1 - RATE, method="higher")).mean()
            auroc = mannwhitneyu(score[known], score[~known]).statistic / known.sum() / (~known).sum()
            figures[name].append([100 * auroc, 100 * oracle])
    print(f"{arguments.source}, {number} learned and {others} never learned, {arguments.splits} splits")
    print("| score | AUROC | known at 5 % false |\n| --- | --- | --- |")
    for name, rows in figures.items():
        cells = zip(np.mean(rows, 0), 1.96 * np.std(rows, 0, ddof=1) / len(rows) ** 0.5, strict=True)
        print(f"| {name} | {' | '.join(f'{mean:.1f} ± {error:.1f}' for mean, error in cells)} |")


if __name__ == "__main__":
    main()
