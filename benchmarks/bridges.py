"""What is an old gallery worth to a new network, over each kind of bridge? `python benchmarks/bridges.py --runs DIR …`

Queries are the last generation's, the gallery holds the vectors of an older one and is not embedded again. Kept is what
they find of what they would find had the last generation embedded the gallery anew: recall@1 and mAP@R, over test
pictures of the classes that the gallery holds. Bridges are fitted as `learn` fits them, to the training pictures of
each session's new classes, and composed along the line; no old class has a part in them, but in "chosen, with items".
Between two unrelated networks, the same run with two seeds, one bridge is fitted to all classes of later sessions.
Without folders a small run is made first.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossed import Crossed, Pictures, crossed
from scrubjay.bridges import Bridge, Judged, choose, compose, fit
from scrubjay.evaluation.retrieval import evaluate_query_gallery
from scrubjay.experiment import ExperimentOptions, run

KINDS = ("identity", "mean_shift", "procrustes", "ridge", "ldc", "mlp")
ITEMS = 300
"""Of the gallery, that the new network may embed, for "chosen, with items"."""
SMALL = {
    "name": "small",
    "source": {"name": "aviary", "species": 24},
    "stream": {"initial": 12, "step": 6},
    "images": {"size": 64, "resize": 72, "views": 2},
    "network": {"frozen": "blocks.5", "dim": 128},
    "method": {"name": "finetune"},
    "training": {"epochs": 4, "increment_epochs": 4, "lr": 1e-3, "increment_lr": 0.5},
}


@dataclass(frozen=True)
class Row:
    """What one bridge kept on one pair of generations.

    Attributes:
        group: method and data, or `unrelated`.
        bridge: its kind, or `chosen`.
        steps: generations between the two.
        last: whether the gallery is that of the first generation.
        figures: recall@1 and mAP@R over the bridge, and of the gallery embedded anew.
        picked: kinds that were chosen on the way.
    """

    group: str
    bridge: str
    steps: int
    last: bool
    figures: tuple[float, float, float, float]
    picked: tuple[str, ...] = ()


def pairs(source: NDArray[np.float32], target: NDArray[np.float32], of: Pictures, rows: NDArray[np.bool_]) -> Judged:
    return Judged(source[rows], target[rows], of.labels[rows])


def candidates(fitted: Judged, held: Judged, items: Judged) -> dict[str, Bridge]:
    """One bridge of each kind, and those that are chosen without and with items of the gallery."""
    found = {kind: fit(kind, fitted.source, fitted.target) for kind in KINDS}
    return {
        **found,
        "chosen": choose(fitted, held).bridge,
        "chosen, with items": choose(fitted, held, sample=items).bridge,
    }


def step(one: Crossed, young: int) -> dict[str, Bridge]:
    """Bridges from a generation to its parent, as `learn` fits them."""
    train, test, old = one.train, one.test, young - 1
    sample = np.zeros(len(train.labels), dtype=bool)
    known = np.flatnonzero((train.sessions >= 0) & (train.sessions < young))
    sample[np.random.default_rng(0).permutation(known)[:ITEMS]] = True
    source, target = train.vectors[young], train.vectors[old]
    return candidates(
        pairs(source, target, train, train.sessions == young),
        pairs(test.vectors[young], test.vectors[old], test, test.sessions == young),
        pairs(source, target, train, sample),
    )


def figures(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], one: Crossed, known: int
) -> tuple[float, float]:
    """recall@1 and mAP@R of test pictures among training pictures, classes of sessions up to `known`."""
    asked, held = one.test.sessions, one.train.sessions
    ask, hold = (asked >= 0) & (asked <= known), (held >= 0) & (held <= known)
    found = evaluate_query_gallery(queries[ask], one.test.labels[ask], gallery[hold], one.train.labels[hold], (1,))
    return found.recall[1], found.map_at_r


def related(one: Crossed, group: str) -> Iterator[Row]:
    """The last generation of a run against each older one."""
    newest = len(one.generations) - 1
    steps = {young: step(one, young) for young in range(newest, 0, -1)}
    queries, anew = one.test.vectors[newest], one.train.vectors[newest]
    for old in range(newest):
        base = figures(queries, anew, one, old)
        for name in steps[newest]:
            line = [steps[young][name] for young in range(newest, old, -1)]
            kept = figures(compose(*line)(queries), one.train.vectors[old], one, old)
            picked = tuple(bridge.kind for bridge in line)
            yield Row(group, name, newest - old, old == 0, (*kept, *base), picked)


def unrelated(new: Crossed, old: Crossed, group: str) -> Iterator[Row]:
    """The last generation of one run against the first of another that saw the same pictures."""
    queries, anew, gallery = new.test.vectors[-1], new.train.vectors[-1], old.train.vectors[0]
    later = old.train.sessions > 0
    known = np.random.default_rng(0).permutation(np.flatnonzero(old.train.sessions == 0))[:ITEMS]
    sample = np.isin(np.arange(len(later)), known)
    found = candidates(
        pairs(anew, gallery, old.train, later),
        pairs(queries, old.test.vectors[0], old.test, old.test.sessions > 0),
        pairs(anew, gallery, old.train, sample),
    )
    base = figures(queries, anew, new, 0)
    for name, bridge in found.items():
        same = "weight" in bridge.tensors or queries.shape[1] == gallery.shape[1]
        if same:
            yield Row(group, name, 1, True, (*figures(bridge(queries), gallery, new, 0), *base), (bridge.kind,))


def tables(rows: Sequence[Row]) -> str:
    """A markdown table a group."""
    parts = []
    for group in dict.fromkeys(row.group for row in rows):
        own = [row for row in rows if row.group == group]
        runs = sum(row.bridge == "identity" and row.last for row in own) or 1
        anew = np.mean([row.figures[2:] for row in own if row.last], axis=0) * 100
        head = [f"## {group}", "", f"{runs} run{'s' * (runs > 1)}; g0's classes, gallery embedded anew: recall@1 "]
        head[-1] += f"{anew[0]:.1f}, mAP@R {anew[1]:.1f}."
        wide = any(row.steps > 1 for row in own)
        columns = [("one generation back", [row for row in own if row.steps == 1])] if wide else []
        columns.append(("g0", [row for row in own if row.last]))
        names = [f"{name}: {figure} kept" for name, _ in columns for figure in ("recall@1", "mAP@R")]
        lines = ["| bridge | " + " | ".join(names) + " | picked |", "| --- |" + " --- |" * (len(names) + 1)]
        for bridge in dict.fromkeys(row.bridge for row in own):
            cells = [cell for _, found in columns for cell in _kept([row for row in found if row.bridge == bridge])]
            lines.append(f"| {bridge} | {' | '.join(cells)} | {_picked(own, bridge)} |")
        parts.append("\n".join([*head, "", *lines]))
    return "\n\n".join(parts)


def _kept(rows: Sequence[Row]) -> list[str]:
    """Per cent of what the gallery embedded anew gives: the mean over runs, and the worst run."""
    found = np.array([row.figures for row in rows])
    shares = 100 * found[:, :2] / found[:, 2:]
    return [
        f"{mean:.1f}" + (f" (≥ {low:.1f})" if len(rows) > 1 else "")
        for mean, low in zip(shares.mean(0), shares.min(0), strict=True)
    ]


def _picked(rows: Sequence[Row], bridge: str) -> str:
    if not bridge.startswith("chosen"):
        return ""
    kinds = [kind for row in rows if row.bridge == bridge and row.last for kind in row.picked]
    return ", ".join(f"{kind} {kinds.count(kind)}×" for kind in dict.fromkeys(kinds))


def measured(folders: Sequence[Path]) -> list[Row]:
    """All rows of the runs, and of pairs of networks that were fine-tuned apart on the same pictures."""
    rows: list[Row] = []
    apart: dict[str, Crossed] = {}
    for folder in folders:
        one = crossed(folder)

        name = folder.resolve().parents[1].name if folder.resolve().parent.name == "runs" else folder.name
        rows += related(one, f"{one.method}, {name}")
        if one.method == "finetune":
            other = apart.get(name)
            if other is not None and np.array_equal(other.train.labels, one.train.labels):
                group = f"Two unrelated networks: fine-tuning, {name}, another seed"
                rows += unrelated(one, other, group)
            apart.setdefault(name, one)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, nargs="+", help="folders of finished runs", default=[])
    folders = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as made:
        if not folders:
            for seed in (0, 1):
                folder = Path(made) / "small" / "runs" / f"finetune-s{seed}"
                run(ExperimentOptions.parse({**SMALL, "seed": seed}), folder)
                folders.append(folder)
        print(tables(measured(folders)))


if __name__ == "__main__":
    main()
