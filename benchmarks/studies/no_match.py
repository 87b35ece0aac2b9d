"""How well images of classes never learned are told from images of learned classes, by metrics in closed form.

    python benchmarks/studies/no_match.py aviary [--splits 20] [--seed 1000]
    python benchmarks/studies/no_match.py grocery [--splits 20] [--names] [--adapt] [--size 224]

Random splits of the classes: 34 learned and 8 never learned of the 60 drawn birds, 14 and 10 of the 81 groceries, at
96 px (`--size`) with the default trunk, untouched or (`--adapt`) trained by g0 on its classes. Generation g0 learns
two thirds of the learned classes, g1 the others as well, with its axes aligned to those of g0. The gallery holds the
training images; four images of each class are held out of it and of learning, as probe images. "mixed" is the gallery
after the promotion of g1, with the items of g0's classes still in the space of g0, and "moved" is the same gallery in
the space of g1.

The rules that are compared, all with a configured rate of 5 %:

    left-out classes   relative Mahalanobis distance; training images, each as if no image of its class were learned
    left-out means     the same score; probe images, as if the mean of their class were not learned
    cosine             cosine of the best item; probe images, with their class left out of the gallery, but not of the
                       metric: the rule of generations that were not learned in closed form

"False" is the share of test images of classes never learned that are called a match, over images and (as "by class")
as the mean over classes; "known" the share of test images of the classes of g0; "oracle" that share at the threshold
that 5 % of the images of classes never learned exceed.

With --names the learned classes are the first in the order of their names and the others come after them: there a class
never learned is not like a learned class that is left out.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from torch import Tensor

from scrubjay.catalogue import Catalogue
from scrubjay.closed_form.discriminant import Projection, aligned, solve
from scrubjay.closed_form.no_match import ClassModel, covariance_root, left_out_scores, left_out_threshold
from scrubjay.closed_form.selection import DEFAULTS
from scrubjay.closed_form.statistics import Statistics
from scrubjay.data.images import ImageOptions
from scrubjay.data.loading import ImageLoader, with_views
from scrubjay.data.sources.aviary import Aviary
from scrubjay.data.sources.grocery import Grocery
from scrubjay.gallery.calibration import conformal_threshold
from scrubjay.models.embedder import Network, NetworkOptions
from scrubjay.models.embedding import BATCH, Encoder
from scrubjay.search.match_decision import CONSIDERED
from scrubjay.types import Dataset
from scrubjay.workspace.options import CatalogueOptions

SIZES = {"aviary": (34, 8), "grocery": (14, 10)}
VIEWS, PROBES, RATE, DIM = 4, 4, 0.05, 512
Figures = defaultdict[tuple[str, str], list[list[float]]]


@dataclass(frozen=True)
class Photos:
    """Trunk features of all images of a source: crops float16 (N, 1 + VIEWS, p) for training, centre crops to test."""

    crops: Tensor
    labels: Tensor
    tests: Tensor
    test_labels: Tensor

    @classmethod
    def of(cls, dataset: Dataset, encoder: Encoder) -> Photos:
        images = encoder.images
        train, test = ([s for s in dataset.samples if s.split == split] for split in ("train", "test"))
        with torch.inference_mode():
            loaded = with_views(ImageLoader(train, images, train=False), VIEWS, BATCH)
            rows = [encoder.embedder.features(batch.images).half() for batch in loaded]
        crops = torch.cat(rows).view(len(train), 1 + VIEWS, -1)
        tests = torch.from_numpy(encoder.features(test).features)
        labels, test_labels = (torch.tensor([sample.label for sample in part]) for part in (train, test))
        return cls(crops, labels, tests, test_labels)


@dataclass(eq=False)
class Learned:
    """One generation: its statistics, its metric, and the images that it has learned from."""

    photos: Photos
    rows: Tensor
    classes: list[int]
    parent: Learned | None = None
    statistics: Statistics = field(init=False)
    projection: Projection = field(init=False)

    def __post_init__(self) -> None:
        self.rows = self.rows[torch.isin(self.photos.labels[self.rows], torch.tensor(self.classes))]
        self.crops = self.photos.crops[self.rows].flatten(0, 1)
        self.crop_labels = self.photos.labels[self.rows].repeat_interleave(1 + VIEWS)
        self.statistics = Statistics.of("era", self.crops, self.crop_labels)
        self.shrinkage = DEFAULTS.shrinkage(self.statistics)
        solved = solve(self.statistics, self.shrinkage, DIM).projection(DEFAULTS.residual, DIM)
        unused = DIM - len(solved.bias)
        solved = Projection(F.pad(solved.weight, (0, 0, 0, unused)), F.pad(solved.bias, (0, unused)))
        self.projection = solved if self.parent is None else aligned(solved, self.parent.projection, self.statistics)

    def embed(self, features: Tensor) -> Tensor:
        return F.normalize(self.projection(features), dim=1)

    def gallery(self) -> tuple[Tensor, Tensor]:
        """Vectors and labels of the training images."""
        return self.embed(self.photos.crops[self.rows, 0]), self.photos.labels[self.rows]


class Rules:
    """The rules of one generation; thresholds are computed once."""

    def __init__(self, learned: Learned, probes: Tensor) -> None:
        self.learned, self.probes = learned, probes
        root = covariance_root(learned.statistics, learned.shrinkage)
        self.model = ClassModel.of(learned.statistics, root)
        centre = (torch.arange(1 + VIEWS) == 0).repeat(len(learned.rows))
        exact = left_out_scores(learned.statistics, root, learned.shrinkage, learned.crops, learned.crop_labels, centre)
        self.features, self.of = learned.photos.crops[probes, 0], learned.photos.labels[probes]
        means = self.model.left_out_scores(self.features, self.of)
        self.thresholds = {
            "left-out classes": left_out_threshold(*exact, RATE),
            "left-out means": left_out_threshold(*means, RATE),
        }

    def decided(self, gallery: tuple[Tensor, Tensor], queries: Tensor) -> dict[str, tuple[NDArray[np.float64], float]]:
        """Scores of the queries and the threshold, for each rule."""
        vectors, labels = gallery
        cosines = self.learned.embed(queries) @ vectors.T
        hits = torch.searchsorted(self.model.labels, labels[cosines.topk(CONSIDERED, 1).indices])
        scores = self.model.scores(queries).gather(1, hits).amax(1).numpy()
        own = self.of[:, None] == labels
        others = (self.learned.embed(self.features) @ vectors.T).masked_fill(own, -1).amax(1)
        return {rule: (scores, threshold) for rule, threshold in self.thresholds.items()} | {
            "cosine": (cosines.amax(1).numpy(), conformal_threshold(others.numpy(), RATE))
        }


@dataclass(frozen=True)
class Split:
    """The classes of one split, and which training images are learned from and which are probe images."""

    learned: list[int]
    new: list[int]
    rows: list[int]
    probes: list[int]

    @classmethod
    def of(cls, dataset: Dataset, learned: list[int], new: list[int], random: np.random.Generator) -> Split:
        labels = np.array([sample.label for sample in dataset.samples if sample.split == "train"])
        rows, probes = [], []
        for label in learned:
            images = random.permutation(np.flatnonzero(labels == label))
            probes += images[:PROBES].tolist()
            rows += images[PROBES:].tolist()
        return cls(learned, new, rows, probes)

    @property
    def first(self) -> list[int]:
        """Classes that g0 learns."""
        return self.learned[: 2 * len(self.learned) // 3]


def adapted(dataset: Dataset, split: Split, images: ImageOptions) -> Encoder:
    """The trunk after a catalogue trained it in its first session."""
    train = [sample for sample in dataset.samples if sample.split == "train"]
    with tempfile.TemporaryDirectory() as name:
        photos = Path(name) / "photos"
        for row in split.rows:
            if train[row].label in split.first:
                folder = photos / f"class{train[row].label}"
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{row}{train[row].path.suffix}").symlink_to(train[row].path.absolute())
        catalogue = Catalogue.init(Path(name) / "shop", CatalogueOptions(images=images))
        return catalogue.workspace.encoder(catalogue.learn(photos, "slda", {"adapt": "first"}))


def measure(photos: Photos, split: Split, figures: Figures) -> None:
    """Add the figures of one split."""
    learned, new, rows, probes, first = split.learned, split.new, split.rows, split.probes, split.first
    g0 = Learned(photos, torch.tensor(rows), first)
    g1 = Learned(photos, torch.tensor(rows), learned, g0)
    kept = torch.isin(photos.test_labels, torch.tensor([*first, *new]))
    queries, labels = photos.tests[kept], photos.test_labels[kept]
    moved = g1.gallery()
    later = ~torch.isin(moved[1], torch.tensor(first))
    mixed = tuple(torch.cat([old, now[later]]) for old, now in zip(g0.gallery(), moved, strict=True))
    held_out = torch.tensor(probes)
    of_first = held_out[torch.isin(photos.labels[held_out], torch.tensor(first))]
    known = torch.isin(labels, torch.tensor(first)).numpy()
    galleries = {g0: {"before": g0.gallery()}, g1: {"mixed": mixed, "moved": moved}}
    for generation, images in ((g0, of_first), (g1, held_out)):
        rules = Rules(generation, images)
        for state, gallery in galleries[generation].items():
            for rule, (scores, threshold) in rules.decided(gallery, queries).items():
                figures[rule, state].append(row(scores, threshold, known, labels.numpy()))


def row(
    scores: NDArray[np.float64], threshold: float, known: NDArray[np.bool_], labels: NDArray[np.int64]
) -> list[float]:
    """False, false by class, known, oracle, AUROC, in percent."""
    matched, new = scores > threshold, scores[~known]
    by_class = np.mean([matched[labels == label].mean() for label in np.unique(labels[~known])])
    oracle = (scores[known] > np.quantile(new, 1 - RATE, method="higher")).mean()
    auroc = mannwhitneyu(scores[known], new).statistic / known.sum() / len(new)
    return [100 * float(value) for value in (matched[~known].mean(), by_class, matched[known].mean(), oracle, auroc)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="aviary", choices=SIZES)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--names", action="store_true")
    parser.add_argument("--adapt", action="store_true")
    parser.add_argument("--size", type=int, default=96)
    arguments = parser.parse_args()
    dataset = (Aviary(species=60) if arguments.source == "aviary" else Grocery()).load()
    number, others = SIZES[arguments.source]
    size = arguments.size
    images = ImageOptions(size=size, resize=size * 7 // 6, scale=(0.4, 1.0))
    untouched = Encoder(Network(NetworkOptions(features="stages")).embedder.eval(), images)
    photos = None if arguments.adapt else Photos.of(dataset, untouched)
    figures: Figures = defaultdict(list)
    for number_of_split in range(1 if arguments.names else arguments.splits):
        random = np.random.default_rng(arguments.seed + number_of_split)
        order = random.permutation(len(dataset.classes)).tolist()
        if arguments.names:
            order = sorted(order, key=lambda label: dataset.classes[label])
        used, part = order[: number + others], dataset
        if photos is None:
            part = replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.label in used))
        split = Split.of(part, used[:number], used[number:], random)
        measure(photos or Photos.of(part, adapted(part, split, images)), split, figures)
    print(
        f"{arguments.source}, {number} learned and {others} never learned, {len(next(iter(figures.values())))} splits"
    )
    print("| rule | gallery | false | by class | known | oracle | AUROC |\n| --- | --- | --- | --- | --- | --- | --- |")
    for (rule, state), rows in figures.items():
        mean, n = np.mean(rows, 0), len(rows)
        interval = 1.96 * np.std(rows, 0, ddof=1) / n**0.5 if n > 1 else np.zeros(len(mean))
        cells = [f"{m:.1f} ± {e:.1f}" if n > 1 else f"{m:.1f}" for m, e in zip(mean, interval, strict=True)]
        print(f"| {rule} | {state} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
