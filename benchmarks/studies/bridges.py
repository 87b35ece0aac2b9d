"""Retrieval in an old gallery over each kind of bridge, without a backfill, as a share of a full re-index.

    python benchmarks/studies/bridges.py --runs DIR [DIR …] [--out docs/results/bridges.md]

DIR are folders of finished runs. Queries are test images embedded by the newest generation; the gallery is the training
images embedded by an older generation, of the classes that it knew. Bridges are fitted from session to session, on that
session's training images only, and composed; "chosen, items" was fitted to 300 items of the gallery too. 100 % is the
figure of the newest generation in the same gallery, re-embedded. Where that generation has forgotten, the old gallery
is better than the new one, and shares exceed 100 %. Without folders a small run is made first.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from crossed import Crossed, EmbeddedImages, crossed
from numpy.typing import NDArray

from scrubjay.bridges import Bridge, Choice, PairedEmbeddings, choose, compose, fit
from scrubjay.config import read_json
from scrubjay.evaluation.retrieval import evaluate_query_gallery
from scrubjay.experiments import run as experiment
from scrubjay.experiments.run import ExperimentOptions

KINDS = ("identity", "mean_shift", "procrustes", "ridge", "ldc", "mlp")
ROWS = (*KINDS, "chosen", "chosen, items")
ITEMS = 300
QUICK = {
    "name": "quick",
    "source": {"name": "aviary", "species": 12, "train": 8, "test": 4, "size": 64},
    "stream": {"initial": 6, "step": 3},
    "images": {"size": 64, "resize": 72},
    "network": {"dim": 64, "frozen": "blocks.5"},
    "training": {"epochs": 3, "increment_epochs": 3, "classes_per_batch": 3},
}

Score = tuple[float, float]
"""recall@1 and mAP@R."""


def seen(
    loader: EmbeddedImages, source: NDArray[np.float32], target: NDArray[np.float32], rows: NDArray
) -> PairedEmbeddings:
    """Some images, embedded by two networks."""
    return PairedEmbeddings(source[rows], target[rows], loader.labels[rows])


def chosen(run: Crossed, session: int, items: int) -> Choice:
    """The bridge from a session's generation to its parent that is selected with the data available at that time."""
    new, old = (run.train.vectors[generation] for generation in (session, session - 1))
    stored = np.random.default_rng(0).permutation(np.flatnonzero(run.train.sessions < session))[:items]
    return choose(
        seen(run.train, new, old, run.train.sessions == session),
        seen(run.test, run.test.vectors[session], run.test.vectors[session - 1], run.test.sessions == session),
        sample=seen(run.train, new, old, stored) if items else None,
    )


def steps(run: Crossed) -> list[dict[str, Bridge]]:
    """For each increment, by row of the table, the bridge from its generation to the parent."""
    bridges = []
    for parent, session in pairwise(range(len(run.generations))):
        rows = run.train.sessions == session
        new, old = run.train.vectors[session][rows], run.train.vectors[parent][rows]
        kinds = {kind: fit(kind, new, old) for kind in KINDS}
        choices = {name: chosen(run, session, items) for name, items in (("chosen", 0), ("chosen, items", ITEMS))}
        picked = ", ".join(f"{name}: {choice.bridge.kind}" for name, choice in choices.items())
        print(f"<!-- {run.folder.name}, g{session} to g{parent}: {picked} -->", flush=True)
        bridges.append({**kinds, **{name: choice.bridge for name, choice in choices.items()}})
    return bridges


def score(queries: NDArray[np.float32], asked: NDArray, gallery: NDArray[np.float32], labels: NDArray) -> Score:
    scores = evaluate_query_gallery(queries, asked, gallery, labels, (1,))
    return scores.recall[1], scores.map_at_r


def kept(run: Crossed) -> dict[tuple[str, int], Score]:
    """By row and number of sessions back, shares of the re-index; in row "re-index" its figures themselves."""
    shares: dict[tuple[str, int], Score] = {}
    newest, bridges = len(run.generations) - 1, steps(run)
    for older in range(newest):
        rows, asked = run.train.sessions <= older, (run.test.sessions >= 0) & (run.test.sessions <= older)
        queries, labels = run.test.vectors[newest][asked], run.test.labels[asked]
        stored = run.train.labels[rows]
        reindexed = score(queries, labels, run.train.vectors[newest][rows], stored)
        shares["re-index", newest - older] = reindexed
        for row in ROWS:
            bridge = compose(*(step[row] for step in reversed(bridges[older:])))
            bridged = score(bridge(queries), labels, run.train.vectors[older][rows], stored)
            shares[row, newest - older] = (bridged[0] / reindexed[0], bridged[1] / reindexed[1])
    return shares


def unrelated(one: Crossed, other: Crossed) -> dict[tuple[str, int], Score]:
    """The same between the first generations of two runs: networks trained from different initial weights."""
    source, target = (run.train.vectors[0] for run in (one, other))
    fitted, held = (seen(each, a, b, each.sessions == 1) for each, a, b in _both(one, other))
    stored = np.random.default_rng(0).permutation(np.flatnonzero(one.train.sessions == 0))[:ITEMS]
    sample = seen(one.train, source, target, stored)
    bridges = {kind: fit(kind, fitted.source, fitted.target) for kind in KINDS}
    bridges |= {"chosen": choose(fitted, held).bridge, "chosen, items": choose(fitted, held, sample=sample).bridge}
    rows, asked = one.train.sessions == 0, one.test.sessions == 0
    queries, labels, stored = one.test.vectors[0][asked], one.test.labels[asked], one.train.labels[rows]
    reindexed = score(queries, labels, source[rows], stored)
    shares = {("re-index", 1): reindexed}
    for row in ROWS:
        bridged = score(bridges[row](queries), labels, target[rows], stored)
        shares[row, 1] = (bridged[0] / reindexed[0], bridged[1] / reindexed[1])
    return shares


def _both(one: Crossed, other: Crossed) -> Iterator[tuple[EmbeddedImages, NDArray[np.float32], NDArray[np.float32]]]:
    for part in ("train", "test"):
        mine, theirs = getattr(one, part), getattr(other, part)
        yield mine, mine.vectors[0], theirs.vectors[0]


def table(title: str, results: Sequence[dict[tuple[str, int], Score]]) -> str:
    """A Markdown table of means over runs, recall@1 / mAP@R in per cent."""
    distances = sorted({distance for _, distance in results[0]})
    heads = [f"{distance} back" if distance > 1 else "1 session back" for distance in distances]
    lines = [f"### {title}", "", f"| bridge | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for row in (*ROWS, "re-index"):
        cells = [
            [statistics.fmean(shares[row, each][part] for shares in results) for part in (0, 1)] for each in distances
        ]
        name = f"**{row}**" if row.startswith("chosen") else "re-index, the figures" if row == "re-index" else row
        lines.append(f"| {name} | " + " | ".join(f"{100 * a:.1f} / {100 * b:.1f}" for a, b in cells) + " |")
    return "\n".join(lines) + "\n"


def report(runs: Sequence[Crossed]) -> str:
    groups: dict[tuple[str, str], list[Crossed]] = defaultdict(list)
    for run in runs:
        groups[_dataset(run), run.method].append(run)
    parts = [
        table(f"{dataset}, {method}, {len(members)} seed(s)", [kept(run) for run in members])
        for (dataset, method), members in groups.items()
    ]
    for (dataset, method), members in groups.items():
        pairs = [pair for pair in pairwise(members) if pair[0].seed != pair[1].seed]
        if pairs and method == "finetune":
            parts.append(
                table(f"{dataset}, unrelated: g0 of one seed to g0 of another", [unrelated(*p) for p in pairs])
            )
    return "\n".join(parts)


def _dataset(run: Crossed) -> str:
    return str(ExperimentOptions.parse(read_json(run.folder / "config.json"), "run").source["name"])


def quick(folder: Path) -> list[Path]:
    """Two small runs that differ in their seed."""
    made = []
    for seed in (0, 1):
        options = ExperimentOptions.parse({**QUICK, "seed": seed, "method": {"name": "finetune"}}, "quick")
        experiment.run(options, folder / f"finetune-s{seed}")
        made.append(folder / f"finetune-s{seed}")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", nargs="+", type=Path, default=[])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = report([crossed(each) for each in given.runs or quick(Path(folder))])
    print(text)
    if given.out:
        folders = " ".join(str(each) for each in given.runs)
        command = f"`python benchmarks/studies/bridges.py --runs {folders} --out {given.out}`"
        intro = " ".join((__doc__ or "").split("\n\n")[2].split())
        given.out.write_text(f"# Old galleries without a backfill\n\n{command}\n\n{intro}\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
