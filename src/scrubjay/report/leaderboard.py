"""A leaderboard of methods over seeds: pure rows from results, sorted by how near they come to the corner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scrubjay.report import figures as standing
from scrubjay.report.figures import COLUMNS, TARGETS, Figures, shown
from scrubjay.report.paired import Paired, corrected, paired
from scrubjay.report.runs import Result
from scrubjay.report.table import BACKBONE, KEEPS_IMAGES, Estimate, estimate, heading

BASELINES = frozenset({"finetune", "frozen", "lwf", "l2", "mmd", "ewc", "mas", "si", "alasso"})
"""The established methods, to which the backbone without training is added: the best of them is the one to beat."""

TESTED = ("corner", "seen.map_at_r", "cross.map_at_r")
"""The figures that are tested against the best baseline."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that ended without a result: its method, its seed, and why in one line."""

    label: str
    seed: int
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A row: one method, or the backbone before any training.

    Attributes:
        label: of the method, with its own settings.
        keeps_images: it was trained on the images of all sessions: a reference and no competitor.
        is_baseline: it is an established method.
        values: every figure by seed.
        rank: its place among the competitors with a known corner, from 1.
        best: the figures in which no competitor is better.
        tests: against the best baseline, by figure; none for it and for what does not compete.
    """

    label: str
    keeps_images: bool
    is_baseline: bool
    values: Mapping[int, Figures]
    rank: int | None = None
    best: frozenset[str] = frozenset()
    tests: Mapping[str, Paired] | None = None

    def cell(self, key: str) -> Estimate:
        """A figure over the seeds."""
        return estimate(figures[key] for figures in self.values.values())

    def known(self, key: str) -> dict[int, float]:
        """A figure by seed, of those that measured it."""
        return {seed: value for seed, found in self.values.items() if (value := found[key]) is not None}


@dataclass(frozen=True, slots=True)
class Board:
    """The whole.

    Attributes:
        title: what was run.
        rows: the nearest to the corner first, those whose corner is unknown last.
        baseline: label of the best baseline; None when there is none.
        chosen_by: the figure that chose it: the corner, or seen mAP@R where no baseline's corner is known.
        goal: joint's seen mAP@R and its R[T][0], where it was run.
        failed: the runs without a result.
        data: version of the package, the source, and the versions of other packages, of the first run.
    """

    title: str
    rows: tuple[Standing, ...]
    baseline: str | None
    chosen_by: str | None
    goal: tuple[Estimate, Estimate]
    failed: tuple[Failure, ...]
    data: Mapping[str, Any]


def board(results: Mapping[str, Sequence[Result]], failed: Iterable[Failure] = ()) -> Board:
    """The leaderboard of finished runs.

    Args:
        results: contents of `result.json` files by label, one a seed, of runs on one stream.
        failed: the runs without a result.
    """
    runs = [run for each in results.values() for run in each]
    if not runs:
        return Board("no finished run", (), None, None, (estimate(()), estimate(())), tuple(failed), {})
    joint, finetune = _by_seed(results, KEEPS_IMAGES), _by_seed(results, "finetune")
    rows = [_row(label, each, joint, finetune) for label, each in results.items()]
    references = {run["seed"]: run for run in reversed(runs) if run.get("reference")}
    if references:
        found = {s: standing.of_reference(run, joint.get(s), finetune.get(s)) for s, run in references.items()}
        rows.append(Standing(BACKBONE, False, True, dict(sorted(found.items()))))
    rows = _ranked(rows)
    baseline, chosen_by = _best_baseline(rows)
    goal = estimate(map(standing.seen, joint.values())), estimate(map(standing.reindexed, joint.values()))
    data = {"scrubjay": runs[0]["scrubjay"], "source": runs[0]["data"]["source"], "versions": runs[0]["versions"]}
    tested = _tested(_with_best(rows), baseline)
    label = None if baseline is None else baseline.label
    return Board(heading(runs), tuple(tested), label, chosen_by, goal, tuple(failed), data)


def _by_seed(results: Mapping[str, Sequence[Result]], name: str) -> dict[int, Result]:
    """The runs of a reference, by seed: of its plain entry, else of the first of its variants."""
    variants = [runs for runs in results.values() if runs and runs[0]["method"] == name]
    return {run["seed"]: run for run in results.get(name) or (variants or [[]])[0]}


def _row(label: str, runs: Sequence[Result], joint: Mapping[int, Result], finetune: Mapping[int, Result]) -> Standing:
    values = {run["seed"]: standing.figures(run, joint.get(run["seed"]), finetune.get(run["seed"])) for run in runs}
    name = runs[0]["method"]
    return Standing(label, name == KEEPS_IMAGES, name in BASELINES, values)


def _ranked(rows: Sequence[Standing]) -> list[Standing]:
    def place(row: Standing) -> tuple[bool, float, float]:
        mean, seen = row.cell("corner").mean, row.cell("seen.map_at_r").mean
        return mean is None, mean or 0.0, -(seen or 0.0)

    ranks = iter(range(1, len(rows) + 1))
    return [
        row if row.keeps_images or row.cell("corner").mean is None else replace(row, rank=next(ranks))
        for row in sorted(rows, key=place)
    ]


def _best_baseline(rows: Sequence[Standing]) -> tuple[Standing | None, str | None]:
    for key, sign in (("corner", 1), ("seen.map_at_r", -1)):
        known = [(sign * mean, row) for row in rows if row.is_baseline and (mean := row.cell(key).mean) is not None]
        if known:
            return min(known, key=lambda each: each[0])[1], key
    return None, None


def _with_best(rows: Sequence[Standing]) -> list[Standing]:
    """Mark the best competitors, at the precision that is shown."""
    best: dict[str, str] = {}
    for key, column in COLUMNS.items():
        means = [mean for row in rows if not row.keeps_images and (mean := row.cell(key).mean) is not None]
        if len({shown(key, mean) for mean in means}) > 1:
            best[key] = shown(key, min(means) if column.lower else max(means))
    return [
        replace(row, best=frozenset(key for key, text in best.items() if shown(key, row.cell(key).mean) == text))
        if not row.keeps_images
        else row
        for row in rows
    ]


def _tested(rows: Sequence[Standing], baseline: Standing | None) -> list[Standing]:
    """Every competitor against the best baseline; the tests of one figure are one family."""
    if baseline is None:
        return list(rows)
    rivals = [row for row in rows if not row.keeps_images and row.label != baseline.label]
    found = {
        key: corrected({row.label: paired(row.known(key), baseline.known(key)) for row in rivals}) for key in TESTED
    }
    return [
        replace(row, tests={key: found[key][row.label] for key in TESTED}) if row in rivals else row for row in rows
    ]


def to_json(made: Board) -> dict[str, Any]:
    """What `leaderboard.json` holds; `docs/leaderboard.schema.json` says what the keys mean."""
    return {
        "title": made.title,
        "data": dict(made.data),
        "targets": TARGETS,
        "baseline": made.baseline,
        "baseline_chosen_by": made.chosen_by,
        "rows": [_row_to_json(row) for row in made.rows],
        "failed": [{"label": each.label, "seed": each.seed, "reason": each.reason} for each in made.failed],
    }


def _row_to_json(row: Standing) -> dict[str, Any]:
    return {
        "rank": row.rank,
        "label": row.label,
        "keeps_images": row.keeps_images,
        "is_baseline": row.is_baseline,
        "seeds": list(row.values),
        "figures": {
            key: {
                "mean": (cell := row.cell(key)).mean,
                "half": cell.half,
                "n": len(row.known(key)),
                "by_seed": {str(seed): found[key] for seed, found in row.values.items()},
            }
            for key in COLUMNS
        },
        "tests": None
        if row.tests is None
        else {
            key: {"difference": test.difference, "n": test.seeds, "p": test.p, "holm": test.holm}
            for key, test in row.tests.items()
        },
    }
