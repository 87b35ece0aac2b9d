"""What it changes that the same held-out images choose bridges, fit calibrations and judge the gate.

    python benchmarks/studies/probe_halves.py [--splits 20] [--method finetune]

A catalogue of drawn birds: 24 species, then 12 more, each embedded by the generation that learned it; all but the last
block of EfficientNet-Lite0 is frozen, 96 px, ten held-out images of each species. For random halves A and B of the
held-out images of each species, the figures of the gate on A are computed twice: with everything fitted to A itself
(shared), and with everything fitted to B (separate). Their difference is the optimism that sharing the images adds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from scrubjay import Catalogue, CatalogueOptions
from scrubjay.bridges import PairedEmbeddings, choose
from scrubjay.data.aviary import Album
from scrubjay.gallery.calibration import conformal_threshold
from scrubjay.gate.probe_set import ProbeQueries
from scrubjay.gate.view import GalleryView
from scrubjay.promotion.gallery_view import calibrated_view, gallery_slices, probe_queries

OPTIONS = {
    "images": {"size": 96, "resize": 112, "scale": [0.4, 1.0]},
    "network": {"frozen": "blocks.5", "features": "last"},
    "training": {"epochs": 8, "increment_epochs": 8, "lr": 1e-3, "increment_lr": 0.5},
    "probe": {"images": 10},
    "false_match_rate": 0.1,
}
RATE = 0.1


def catalogue(root: Path, method: str) -> Catalogue:
    Album(str(root / "birds"), species=36, train=16, test=10, size=128, seed=0).complete()
    for split in ("train", "test"):
        for number, folder in enumerate(sorted((root / "birds" / split).iterdir())):
            season = "spring" if number % 3 else "summer"
            (root / season / split).mkdir(parents=True, exist_ok=True)
            folder.rename(root / season / split / folder.name)
    shop = Catalogue.init(root / "shop", CatalogueOptions.parse(OPTIONS))
    shop.learn(root / "spring", "finetune")
    shop.add([root / "spring" / "train"])
    shop.learn(root / "summer", method)
    shop.promote("g1", force=True)
    shop.add([root / "summer" / "train"])  # so that queries search two spaces, whose scores are merged
    return shop


def halves(labels: list[str], draw: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of two halves, as equal as can be in every class."""
    sides: tuple[list[int], list[int]] = ([], [])
    for label in dict.fromkeys(labels):
        rows = draw.permutation([row for row, other in enumerate(labels) if other == label]).tolist()
        for turn, row in enumerate(rows):
            sides[turn % 2].append(row)
    return np.array(sorted(sides[0])), np.array(sorted(sides[1]))


def of(queries: ProbeQueries, rows: NDArray[np.int64]) -> ProbeQueries:
    return ProbeQueries(queries.vectors[rows], tuple(queries.probes[row] for row in rows))


def figures(view: GalleryView, threshold: float) -> list[float]:
    """Recall@1 and mAP@R over all classes, and the share of images that count as a match without their class."""
    scores = view.evaluate()
    return [scores.recall[1], scores.map_at_r, float(np.mean(np.array(view.best_match_scores()[0]) > threshold))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--method", default="finetune")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        shop = catalogue(Path(name), arguments.method)
        workspace = shop.workspace
        g1 = workspace.lineage.get("g1")
        queries, slices = probe_queries(workspace, g1), gallery_slices(workspace, g1)
        embeddings = workspace.lineage.embeddings(g1)
        train, test = embeddings.train, embeddings.test
        fit = PairedEmbeddings(train.new, train.old, train.labels)
        old_items = [part.vectors for part in slices if part.space.startswith("g0-")]
        gallery = np.concatenate([*old_items, train.old])
        differences, bridges = [], []
        for _ in range(arguments.splits):
            a, b = halves([probe.label for probe in queries.probes], draw)
            judged = calibrated_view(workspace, g1, of(queries, a), slices)
            other = calibrated_view(workspace, g1, of(queries, b), slices)
            separate = GalleryView(judged.probes, slices, judged.cosines, other.calibrations)
            thresholds = [conformal_threshold(np.array(view.best_match_scores()[0]), RATE) for view in (judged, other)]
            differences.append(np.subtract(figures(judged, thresholds[0]), figures(separate, thresholds[1])))
            a, b = halves([str(label) for label in test.labels], draw)
            pairs = [PairedEmbeddings(test.new[rows], test.old[rows], test.labels[rows]) for rows in (a, b)]
            reached = []
            for held in pairs:
                carried = choose(fit, held).bridge(test.new[a])
                best = (carried @ gallery.T).argmax(axis=1) - (len(gallery) - len(train.labels))
                reached.append(np.mean((best >= 0) & (train.labels[np.maximum(best, 0)] == test.labels[a])))
            bridges.append(reached[0] - reached[1])
    print(f"{arguments.method}, {arguments.splits} splits: shared minus separate, in points, mean ± standard error")
    rows = ("recall@1, all classes", "mAP@R, all classes", f"false matches at {RATE:.0%}")
    for title, column in zip(rows, np.array(differences).T, strict=True):
        print(f"{title}: {100 * column.mean():+.2f} ± {100 * column.std(ddof=1) / len(column) ** 0.5:.2f}")
    chosen = np.array(bridges)
    print(
        "recall@1, new classes over the chosen bridge: "
        f"{100 * chosen.mean():+.2f} ± {100 * chosen.std(ddof=1) / len(chosen) ** 0.5:.2f}"
    )


if __name__ == "__main__":
    main()
