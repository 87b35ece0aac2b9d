"""A leaderboard of methods over seeds: rows computed from results, sorted by their distance to the corner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scrubjay.report import figures as figure
from scrubjay.report.figures import COLUMNS, TARGETS, Figures, shown
from scrubjay.report.paired import Paired, corrected, paired
from scrubjay.report.runs import Result
from scrubjay.report.table import BACKBONE, KEEPS_IMAGES, Estimate, estimate, heading

BASELINES = frozenset({"finetune", "frozen", "lwf", "l2", "mmd", "ewc", "mas", "si", "alasso"})
"""The established methods. The best of them and of the backbone without training is the baseline of the tests."""

TESTED = ("corner", "seen.map_at_r", "cross.map_at_r")
"""The figures that are tested against the best baseline."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that ended without a result: its method, its seed, and the reason in one line."""

    label: str
    seed: int
    reason: str


@dataclass(frozen=True, slots=True)
class BoardRow:
    """A row of the leaderboard: one method, or the backbone without training.

    Attributes:
        label: name of the method, with the settings of its entry.
        keeps_images: it was trained on the images of all sessions: a reference that does not compete.
        is_baseline: it is an established method.
        values: every figure by seed.
        rank: its place among the competitors with a known distance to the corner, from 1.
        best: the figures in which no competitor is better.
        tests: against the best baseline, by figure; None for the baseline and for references.
        is_upper_reference: `seen_of_joint`, `gap` and `seconds_of_joint` are relative to this row.
    """

    label: str
    keeps_images: bool
    is_baseline: bool
    values: Mapping[int, Figures]
    rank: int | None = None
    best: frozenset[str] = frozenset()
    tests: Mapping[str, Paired] | None = None
    is_upper_reference: bool = False

    def cell(self, key: str) -> Estimate:
        """A figure over the seeds."""
        return estimate(values[key] for values in self.values.values())

    def known(self, key: str) -> dict[int, float]:
        """A figure by seed, for the seeds that measured it."""
        return {seed: value for seed, values in self.values.items() if (value := values[key]) is not None}


@dataclass(frozen=True, slots=True)
class Board:
    """A leaderboard.

    Attributes:
        title: what was run.
        rows: the nearest to the corner first, those with an unknown distance last.
        baseline: label of the best baseline; None when there is none.
        chosen_by: the figure that chose it: the corner, or seen mAP@R where no baseline's distance is known.
        upper_reference: label of the best row that keeps all images; None when there is none.
        goal: the corner as a point of the plot: the upper reference's seen mAP@R, and the larger of C[0][0] and its
            R[T][0].
        failed: the runs without a result.
        data: version of the package, the source, and the versions of other packages, of the first run.
    """

    title: str
    rows: tuple[BoardRow, ...]
    baseline: str | None
    chosen_by: str | None
    upper_reference: str | None
    goal: tuple[Estimate, Estimate]
    failed: tuple[Failure, ...]
    data: Mapping[str, Any]


def board(results: Mapping[str, Sequence[Result]], failed: Iterable[Failure] = ()) -> Board:
    """The leaderboard of finished runs.

    Args:
        results: contents of `result.json` files by label, one for each seed, of runs on one stream.
        failed: the runs without a result.
    """
    runs = [run for each in results.values() for run in each]
    if not runs:
        nothing = estimate(())
        return Board("no finished run", (), None, None, None, (nothing, nothing), tuple(failed), {})
    upper = upper_reference(results)
    joint = {} if upper is None else {run["seed"]: run for run in results[upper]}
    finetune = _finetune(results)
    rows = [_row(label, each, joint, finetune, label == upper) for label, each in results.items()]
    references = {run["seed"]: run for run in reversed(runs) if run.get("reference")}
    if references:
        values = {
            seed: figure.of_reference(run, joint.get(seed), finetune.get(seed)) for seed, run in references.items()
        }
        rows.append(BoardRow(BACKBONE, False, True, dict(sorted(values.items()))))
    rows = _ranked(rows)
    baseline, chosen_by = _best_baseline(rows)
    data = {"scrubjay": runs[0]["scrubjay"], "source": runs[0]["data"]["source"], "versions": runs[0]["versions"]}
    return Board(
        title=heading(runs),
        rows=tuple(_tested(_with_best(rows), baseline)),
        baseline=None if baseline is None else baseline.label,
        chosen_by=chosen_by,
        upper_reference=upper,
        goal=_goal(joint.values()),
        failed=tuple(failed),
        data=data,
    )


def upper_reference(results: Mapping[str, Sequence[Result]]) -> str | None:
    """Label of the upper reference: of the entries that keep all images, the one with the highest mean seen mAP@R.

    Of equals the first is taken, and those of which nothing is known come last.
    """
    means = {
        label: estimate(figure.seen(run) for run in runs).mean
        for label, runs in results.items()
        if runs and runs[0]["method"] in KEEPS_IMAGES
    }
    return max(means, key=lambda label: (means[label] is not None, means[label] or 0.0)) if means else None


def _finetune(results: Mapping[str, Sequence[Result]]) -> dict[int, Result]:
    """The runs of fine-tuning by seed: of its entry without settings, else of its first entry."""
    variants = [runs for runs in results.values() if runs and runs[0]["method"] == "finetune"]
    chosen = results.get("finetune") or (variants[0] if variants else ())
    return {run["seed"]: run for run in chosen}


def _goal(joint: Iterable[Result]) -> tuple[Estimate, Estimate]:
    heights = []
    runs = list(joint)
    for run in runs:
        own, reindexed = figure.first_gallery(run), figure.reindexed(run)
        heights.append(None if own is None or reindexed is None else max(own, reindexed))
    return estimate(map(figure.seen, runs)), estimate(heights)


def _row(
    label: str,
    runs: Sequence[Result],
    joint: Mapping[int, Result],
    finetune: Mapping[int, Result],
    is_upper_reference: bool,
) -> BoardRow:
    values = {run["seed"]: figure.figures(run, joint.get(run["seed"]), finetune.get(run["seed"])) for run in runs}
    name = runs[0]["method"]
    return BoardRow(label, name in KEEPS_IMAGES, name in BASELINES, values, is_upper_reference=is_upper_reference)


def _ranked(rows: Sequence[BoardRow]) -> list[BoardRow]:
    def place(row: BoardRow) -> tuple[bool, float, float]:
        mean, seen = row.cell("corner").mean, row.cell("seen.map_at_r").mean
        return mean is None, mean or 0.0, -(seen or 0.0)

    ranks = iter(range(1, len(rows) + 1))
    return [
        row if row.keeps_images or row.cell("corner").mean is None else replace(row, rank=next(ranks))
        for row in sorted(rows, key=place)
    ]


def _best_baseline(rows: Sequence[BoardRow]) -> tuple[BoardRow | None, str | None]:
    for key, sign in (("corner", 1), ("seen.map_at_r", -1)):
        known = [(sign * mean, row) for row in rows if row.is_baseline and (mean := row.cell(key).mean) is not None]
        if known:
            return min(known, key=lambda each: each[0])[1], key
    return None, None


def _with_best(rows: Sequence[BoardRow]) -> list[BoardRow]:
    """Mark the best competitors of every figure, at the precision that is shown."""
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


def _tested(rows: Sequence[BoardRow], baseline: BoardRow | None) -> list[BoardRow]:
    """Test every competitor against the best baseline; the tests of one figure are one family."""
    if baseline is None:
        return list(rows)
    rivals = [row for row in rows if not row.keeps_images and row.label != baseline.label]
    tests = {
        key: corrected({row.label: paired(row.known(key), baseline.known(key)) for row in rivals}) for key in TESTED
    }
    return [
        replace(row, tests={key: tests[key][row.label] for key in TESTED}) if row in rivals else row for row in rows
    ]


def to_json(leaderboard: Board) -> dict[str, Any]:
    """What `leaderboard.json` holds; `docs/leaderboard.schema.json` describes the keys."""
    return {
        "title": leaderboard.title,
        "data": dict(leaderboard.data),
        "targets": TARGETS,
        "baseline": leaderboard.baseline,
        "baseline_chosen_by": leaderboard.chosen_by,
        "upper_reference": leaderboard.upper_reference,
        "rows": [_row_to_json(row) for row in leaderboard.rows],
        "failed": [{"label": each.label, "seed": each.seed, "reason": each.reason} for each in leaderboard.failed],
    }


def _row_to_json(row: BoardRow) -> dict[str, Any]:
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
                "by_seed": {str(seed): values[key] for seed, values in row.values.items()},
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
