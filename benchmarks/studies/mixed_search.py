"""Retrieval in a gallery during a backfill, by the order of its items.

    python benchmarks/studies/mixed_search.py --runs DIR …

The last generation (of longer runs, g3) embeds the queries. The gallery holds every session's training images, embedded
by the generation that was newest when they were added ("as they came"), or those of all older sessions by g0 ("all by
g0"). A part of the older items is re-embedded, in some order. Half of the test images of each class are the probe
images, which calibrate the searched spaces and order the items; the other half are the queries. Bridges are ridge maps
fitted to the new classes of each session. Without folders a small run is made first. `--out FILE` writes the tables.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from crossed import Crossed, crossed
from numpy.typing import NDArray

from scrubjay.backfill.priority import BackfillQueue, backfill_order, expected_errors, score_gradients
from scrubjay.bridges import Bridge, compose, fit
from scrubjay.config import read_json
from scrubjay.evaluation.compatibility import backfill_area
from scrubjay.evaluation.retrieval import evaluate_scores
from scrubjay.experiments.run import ExperimentOptions, run
from scrubjay.gallery.calibration import Calibration, ScoredPairs, fit_calibration, fit_calibrations
from scrubjay.gallery.gallery import Gallery, SpaceQuery
from scrubjay.stores import Item, Space, open_store

LAST = 3
FRACTIONS = np.linspace(0, 1, 11)
SCENARIOS = ("as they came", "all by g0")
RANDOM = 2
SMALL = {
    "name": "small",
    "source": {"name": "aviary", "species": 24},
    "stream": {"initial": 12, "step": 6},
    "images": {"size": 64, "resize": 72, "views": 2},
    "network": {"frozen": "blocks.5", "dim": 128},
    "method": {"name": "finetune"},
    "training": {"epochs": 4, "increment_epochs": 4, "lr": 1e-3, "increment_lr": 0.5},
}
Lines = dict[int, Calibration]
Curves = dict[str, NDArray[np.float64]]
Groups = dict[str, list[Curves]]
Fitting = Callable[["Study", NDArray[np.int64]], Lines]


@dataclass(frozen=True)
class Study:
    """One run in one scenario.

    Attributes:
        last: number of the generation that embeds the queries.
        before: int64 (N,), the generation of each item's vector before the backfill.
        vectors: for generation g, embeddings (N, d) of the items.
        labels: int64 (N,), labels of the items.
        carried: for generation g, the queries (Q, d) mapped from the space of `last` to its space.
        asked: int64 (Q,), labels of the queries.
        probe: bool (Q,), which queries are probe images.
        errors: float64 (N,), expected remaining error of the bridge for each item.
        new: bool (N,), which items belong to classes of the last session.
    """

    last: int
    before: NDArray[np.int64]
    vectors: list[NDArray[np.float32]]
    labels: NDArray[np.int64]
    carried: list[NDArray[np.float32]]
    asked: NDArray[np.int64]
    probe: NDArray[np.bool_]
    errors: NDArray[np.float64]
    new: NDArray[np.bool_]

    def cosines(self, g: int, rows: NDArray[np.bool_], columns: NDArray[np.bool_]) -> NDArray[np.float32]:
        return self.carried[g][rows] @ self.vectors[g][columns].T

    def pairs(self, g: int, at: NDArray[np.int64]) -> ScoredPairs:
        matches = self.asked[self.probe][:, None] == self.labels[at == g][None, :]
        return ScoredPairs(self.cosines(g, self.probe, at == g), matches, np.ones_like(matches))

    def scores(self, at: NDArray[np.int64], lines: Lines, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Calibrated scores of the queries `rows` for all items, whose vectors are by the generations `at`."""
        merged = np.empty((int(rows.sum()), len(at)))
        for g in np.unique(at):
            merged[:, at == g] = lines[g](self.cosines(g, rows, at == g))
        return merged

    def backfilled(self, ranked: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
        at = self.before.copy()
        at[ranked[: round(fraction * len(ranked))]] = self.last
        return at


def study(one: Crossed, scenario: str) -> Study:
    last = min(LAST, len(one.generations) - 1)
    kept, mine = ((part.sessions >= 0) & (part.sessions <= last) for part in (one.train, one.test))
    vectors = [part[kept] for part in one.train.vectors]
    labels, sessions, asked = one.train.labels[kept], one.train.sessions[kept], one.test.labels[mine]
    older = sessions if scenario == SCENARIOS[0] else np.where(sessions == last, last, 0)
    up, carried = {}, {last: one.test.vectors[last][mine]}
    for young in range(last, 0, -1):
        rows = sessions == young
        down = fit("ridge", vectors[young][rows], vectors[young - 1][rows])
        up[young] = fit("ridge", vectors[young - 1][rows], vectors[young][rows])
        carried[young - 1] = down(carried[young])
    turn = np.array([np.flatnonzero(asked == label).tolist().index(row) for row, label in enumerate(asked)])
    errors = _errors(last, older, vectors, sessions, up)
    return Study(
        last,
        older,
        vectors,
        labels,
        [carried[g] for g in range(last + 1)],
        asked,
        turn % 2 == 0,
        errors,
        sessions == last,
    )


def _errors(
    last: int,
    before: NDArray[np.int64],
    vectors: list[NDArray[np.float32]],
    sessions: NDArray[np.int64],
    up: dict[int, Bridge],
) -> NDArray[np.float64]:
    """Expected errors of the last bridge, from the images that it was fitted to."""
    rows = sessions == last
    known = 1 - np.vecdot(up[last](vectors[last - 1][rows]), vectors[last][rows])
    errors = np.zeros(len(before))
    for g in range(last):
        near = compose(*(up[young] for young in range(g + 1, last)))(vectors[g][before == g])
        errors[before == g] = expected_errors(near, vectors[last - 1][rows], known.astype(np.float64))
    return errors


def together(one: Study, at: NDArray[np.int64]) -> Lines:
    generations = [int(g) for g in np.unique(at)[::-1]]
    return dict(zip(generations, fit_calibrations([one.pairs(g, at) for g in generations]), strict=True))


def apart(one: Study, at: NDArray[np.int64]) -> Lines:
    pairs = {int(g): one.pairs(g, at) for g in np.unique(at)}
    return {g: fit_calibration(each.cosines, each.matches, each.counted) for g, each in pairs.items()}


def by_new_classes(one: Study, at: NDArray[np.int64]) -> Lines:
    """Calibrations from the last session only: its training images are distributed at random over the spaces."""
    legs = [int(g) for g in np.unique(at)[::-1]]
    asking = one.probe & np.isin(one.asked, one.labels[one.new])
    deal = np.where(one.new, np.random.default_rng(0).choice(legs, len(at)), -1)
    pairs = []
    for g in legs:
        matches = one.asked[asking][:, None] == one.labels[deal == g][None, :]
        pairs.append(ScoredPairs(one.cosines(g, asking, deal == g), matches, np.ones_like(matches)))
    return dict(zip(legs, fit_calibrations(pairs), strict=True))


def raw(one: Study, at: NDArray[np.int64]) -> Lines:
    return {int(g): Calibration(1.0, 0.0) for g in np.unique(at)}


def orders(one: Study) -> dict[str, list[NDArray[np.int64]]]:
    """By strategy, orders of the older items (rows of the arrays)."""
    older = np.flatnonzero(one.before != one.last)
    matches = one.asked[one.probe][:, None] == one.labels[None, :]
    gradients = score_gradients(
        one.scores(one.before, together(one, one.before), one.probe), matches, np.ones_like(matches)
    )
    names = [f"{label:04d}" for label in one.labels[older]]
    queue = BackfillQueue(names, one.errors[older], gradients[older], np.ones(len(older)))
    strategies = ("gain", "uncertainty", "label")
    found = {name: [older[backfill_order(name, queue)]] for name in strategies}
    return {**found, "random": [older[backfill_order("random", queue, seed)] for seed in range(RANDOM)]}


def curve(one: Study, ranked: NDArray[np.int64], fitting: Fitting) -> NDArray[np.float64]:
    """recall@1 and mAP@R at each fraction of the backfill: (11, 2)."""
    results = []
    for fraction in FRACTIONS:
        at = one.backfilled(ranked, fraction)
        scores = one.scores(at, fitting(one, at), ~one.probe)
        figures = evaluate_scores(scores, one.asked[~one.probe], one.labels, (1,))
        results.append((figures.recall[1], figures.map_at_r))
    return np.array(results)


def curves(one: Study) -> Curves:
    ranked = orders(one)
    unbridged = Study(**{**vars(one), "carried": [one.carried[one.last]] * (one.last + 1)})
    mixed = {name: np.mean([curve(one, each, together) for each in found], axis=0) for name, found in ranked.items()}
    first = ranked["random"][0]
    return {
        "no bridge, raw cosines": curve(unbridged, first, raw),
        "raw cosines": curve(one, first, raw),
        "each space's own line": curve(one, first, apart),
        "lines fitted together, new classes only": curve(one, first, by_new_classes),
        **mixed,
    }


def check_store(one: Study, fraction: float) -> int:
    """Search a real gallery in the middle of a backfill, compare its hits with the arrays', and return their number."""
    at = one.backfilled(orders(one)["gain"][0], fraction)
    lines = together(one, at)
    rows = np.flatnonzero(~one.probe)[:40]
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery(open_store(f"lancedb://{folder}/gallery"))
        space_queries = []
        for g in range(one.last, -1, -1):
            space = Space(f"g{g}", one.vectors[g].shape[1], f"print-{g}", f"g{g}")
            held = np.flatnonzero((at == g) | (one.before == g))
            items = [Item(f"{row:06d}", f"{row}.jpg", str(row), str(one.labels[row])) for row in held]
            if items:
                gallery.add(items, one.vectors[g][held], space)
                space_queries.append(SpaceQuery(space, one.carried[g][rows], lines.get(g, Calibration())))
        found = gallery.search_mixed(space_queries, 10)
        assert gallery.unembedded() == 0
    for row, hits in zip(rows, found, strict=True):
        scored = []
        for g in np.unique(at):
            exact = one.vectors[g][at == g].astype(np.float64) @ one.carried[g][row].astype(np.float64)
            names = np.flatnonzero(at == g)
            scored += [(-s, -int(g), int(i)) for s, i in zip(lines[g](np.clip(exact, -1, 1)), names, strict=True)]
        assert [int(hit.id) for hit in hits] == [item for *_, item in sorted(scored)[:10]], f"query {row}"
    return sum(map(len, found))


def table(found: Curves, metric: int) -> Iterator[str]:
    yield "| order of the backfill | " + " | ".join(f"{fraction:.0%}" for fraction in FRACTIONS) + " | area |"
    yield "| --- |" + " ---: |" * (len(FRACTIONS) + 1)
    for name, figures in found.items():
        scores = figures[:, metric]
        text = name if "cosines" in name or "line" in name else f"{name}, lines fitted together"
        yield f"| {text} | " + " | ".join(f"{s:.3f}" for s in scores) + f" | {backfill_area(FRACTIONS, scores):.4f} |"


def claim(found: Curves, name: str) -> str:
    """At which fractions a curve is below the lower one of its ends, and by how much."""
    parts = []
    for metric, title in enumerate(("recall@1", "mAP@R")):
        scores = found[name][:, metric]
        below = min(scores[0], scores[-1]) - scores
        broken = [f"{FRACTIONS[at]:.0%} (−{below[at]:.3f})" for at in np.flatnonzero(below > 1e-9)]
        parts.append(f"{title}: {', '.join(broken) or 'nowhere'}")
    return f"{name}, below the worse end: " + "; ".join(parts)


def report(groups: Groups) -> Iterator[str]:
    for group, runs in groups.items():
        mean = {name: np.mean([each[name] for each in runs], axis=0) for name in runs[0]}
        yield f"\n## {group} ({len(runs)} seed{'s' * (len(runs) > 1)})\n"
        for metric, title in enumerate(("recall@1", "mAP@R")):
            yield f"{title}\n"
            yield from table(mean, metric)
            yield ""
        yield from (f"* {claim(mean, name)}" for name in ("gain", "random"))


def summary(groups: Groups) -> Iterator[str]:
    """Areas under the curves of all runs, and their differences from a random order in the same run."""
    yield "| | recall@1 | mAP@R | against random: recall@1 | mAP@R | better in (recall@1, mAP@R) |"
    yield "| --- |" + " ---: |" * 5
    runs = [each for found in groups.values() for each in found]
    area = {
        name: np.array([[backfill_area(FRACTIONS, each[name][:, m]) for m in (0, 1)] for each in runs])
        for name in runs[0]
    }
    for name, each in area.items():
        gap, wins = each - area["random"], (each > area["random"] + 1e-9).sum(axis=0)
        figures = (
            " | ".join(f"{x:.4f}" for x in each.mean(axis=0))
            + " | "
            + " | ".join(f"{x:+.4f}" for x in gap.mean(axis=0))
        )
        yield f"| {name} | {figures} | {wins[0]}, {wins[1]} of {len(runs)} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", nargs="+", type=Path, default=[])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    groups: Groups = {}
    with tempfile.TemporaryDirectory() as folder:
        if not options.runs:
            run(ExperimentOptions.parse(SMALL), Path(folder) / "small")
        for number, path in enumerate(options.runs or [Path(folder) / "small"]):
            one, name = crossed(path), read_json(path / "config.json")["name"]
            for scenario in SCENARIOS:
                studied = study(one, scenario)
                groups.setdefault(f"{name}, {one.method}, {scenario}", []).append(curves(studied))
                if number == 0:
                    same = sum(check_store(studied, fraction) for fraction in (0.0, 0.5, 1.0))
                    print(f"{scenario}: a real gallery at 0 %, 50 % and 100 % gives the same {same} hits as the arrays")
            print(f"{path}: done", flush=True)
            if options.out:
                options.out.write_text("\n".join([*summary(groups), *report(groups)]) + "\n", encoding="utf-8")
    print("\n".join([*summary(groups), *report(groups)]))


if __name__ == "__main__":
    main()
