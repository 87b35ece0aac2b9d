"""The figures of a leaderboard, of one run each: what was kept, what was learned, how far that is from the corner."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scrubjay.report.runs import Result, number
from scrubjay.report.table import METRICS, NOT_MEASURED, group_figure, percent

Figures = dict[str, float | None]
"""A value by the keys of `COLUMNS`; None for what was not measured."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the leaderboard.

    Attributes:
        title: for people.
        unit: "%" for a fraction, which is shown in per cent, else "s" or "MB".
        lower: whether less is better.
    """

    title: str
    unit: str = "%"
    lower: bool = False


TARGETS = {"old_kept": 1.0, "seen_of_joint": 0.98, "old_gallery_kept": 0.98}
"""The corner: a method that reaches all three has distance 0."""

COLUMNS = {
    "corner": Column("distance to the corner", lower=True),
    "old_kept": Column("old kept"),
    "seen_of_joint": Column("seen of joint"),
    "old_gallery_kept": Column("old gallery kept"),
    "seen.recall@1": Column("seen recall@1"),
    "seen.map_at_r": Column("seen mAP@R"),
    "cross.recall@1": Column("new queries, old gallery recall@1"),
    "cross.map_at_r": Column("new queries, old gallery mAP@R"),
    "own.map_at_r": Column("g0's queries on its own gallery mAP@R"),
    "old.recall@1": Column("old recall@1"),
    "old.map_at_r": Column("old mAP@R"),
    "new.recall@1": Column("new recall@1"),
    "new.map_at_r": Column("new mAP@R"),
    "unseen.recall@1": Column("unseen recall@1"),
    "unseen.map_at_r": Column("unseen mAP@R"),
    "gap": Column("normalised gap"),
    "forgetting": Column("forgetting", lower=True),
    "seconds": Column("learning an increment", "s", lower=True),
    "seconds_of_joint": Column("time of joint's", lower=True),
    "peak_mb": Column("peak memory", "MB", lower=True),
}
"""Every figure by its key in `leaderboard.json`, in the order of the columns."""


def shown(key: str, value: float | None) -> str:
    """A value as it is shown: fractions in per cent and seconds with one decimal, memory with none.

    >>> shown("old_kept", 0.9714), shown("seconds", 61.26), shown("peak_mb", 1234.0), shown("gap", None)
    ('97.1', '61.3', '1,234', '–')
    """
    if value is None:
        return NOT_MEASURED
    unit = COLUMNS[key].unit
    return percent(value) if unit == "%" else f"{value:,.1f}" if unit == "s" else f"{value:,.0f}"


def figures(run: Result, joint: Result | None, finetune: Result | None) -> Figures:
    """All figures of a run; `joint` and `finetune` are the runs of these methods with the same seed, if there are.

    old kept = Σ_{j<T} a[T][j] / Σ_{j<T} a[j][j]; seen of joint = seen / joint's seen; old gallery kept = C[T][0] /
    R[T][0], where R has that gallery embedded anew by the last generation; all in mAP@R.
    """
    found = of_groups(run["groups"][-1])
    for metric in METRICS:
        found[f"cross.{metric}"] = _matrix(run, "compatibility", metric, -1)
    found["own.map_at_r"] = _matrix(run, "compatibility", "map_at_r", 0)
    found["old_kept"] = old_kept(((run.get("accuracy") or {}).get("map_at_r")) or [])
    found["old_gallery_kept"] = ratio(found["cross.map_at_r"], reindexed(run))
    found["forgetting"] = number(((run.get("continual") or {}).get("map_at_r") or {}).get("forgetting"))
    found["seconds"] = _seconds(run)
    found["seconds_of_joint"] = ratio(found["seconds"], _seconds(joint))
    found["peak_mb"] = _peak(run)
    return with_references(found, joint, finetune)


def of_groups(entry: Mapping[str, Mapping[str, object] | None]) -> Figures:
    """Recall@1 and mAP@R of every group; the others are None."""
    groups = {
        f"{group}.{metric}": group_figure(entry.get(group), metric)
        for group in ("old", "new", "seen", "unseen")
        for metric in METRICS
    }
    return {**dict.fromkeys(COLUMNS), **groups}


def of_reference(run: Result, joint: Result | None, finetune: Result | None) -> Figures:
    """The figures of the backbone without training, from a run that measured it.

    What never changes forgets nothing, and its old gallery is what it would make anew: these follow by definition.
    """
    found = of_groups(run["reference"])
    if len(run["groups"]) > 1:
        found |= {"old_kept": 1.0, "old_gallery_kept": 1.0, "forgetting": 0.0}
    return with_references(found, joint, finetune)


def with_references(found: Figures, joint: Result | None, finetune: Result | None) -> Figures:
    """The figures, with those that follow from them and the two references."""
    best, plain = seen(joint), seen(finetune)
    found = {**found, "seen_of_joint": ratio(found["seen.map_at_r"], best)}
    found["gap"] = normalised_gap(found["seen.map_at_r"], plain, best)
    found["corner"] = corner(found)
    return found


def seen(run: Result | None) -> float | None:
    """mAP@R over all classes, after the last session."""
    return None if run is None else group_figure(run["groups"][-1].get("seen"), "map_at_r")


def reindexed(run: Result | None) -> float | None:
    """R[T][0] in mAP@R: the queries of C[T][0] on the same gallery, embedded anew by the last generation."""
    return None if run is None else _matrix(run, "reindex", "map_at_r", -1)


def _matrix(run: Result, key: str, metric: str, generation: int) -> float | None:
    """Queries by a generation on g0's gallery."""
    matrix = (run.get(key) or {}).get(metric) or []
    return number(matrix[generation][0]) if len(matrix) > 1 else None  # one session has no older gallery


def old_kept(a: Sequence[Sequence[float | None]]) -> float | None:
    """What earlier sessions' classes have at the end, as a share of what they had when they were learned.

    >>> old_kept([[0.8, None], [0.4, 0.9]])
    0.5
    """
    pairs = [(number(a[-1][j]), number(a[j][j])) for j in range(len(a) - 1)]
    known = [(now, then) for now, then in pairs if now is not None and then is not None]
    if not known or len(known) < len(pairs):
        return None
    return ratio(math.fsum(now for now, _ in known), math.fsum(then for _, then in known))


def normalised_gap(value: float | None, finetune: float | None, joint: float | None) -> float | None:
    """(value − fine-tuning) / (joint − fine-tuning)."""
    if value is None or finetune is None or joint is None:
        return None
    return ratio(value - finetune, joint - finetune)


def corner(found: Mapping[str, float | None]) -> float | None:
    """√ Σ max(0, target − value)² over `TARGETS`; None where one of the three is unknown.

    >>> corner({"old_kept": 0.7, "seen_of_joint": 1.1, "old_gallery_kept": 0.58})
    0.5
    """
    missed = 0.0
    for key, target in TARGETS.items():
        value = found[key]
        if value is None:
            return None
        missed += max(0.0, target - value) ** 2
    return math.sqrt(missed)


def ratio(part: float | None, whole: float | None) -> float | None:
    """`part` / `whole`; None where one is unknown, or the whole is nothing."""
    return part / whole if part is not None and whole else None


def _seconds(run: Result | None) -> float | None:
    taken = [number(phase["seconds"]) for phase in _increments(run)]
    known = [seconds for seconds in taken if seconds is not None]
    return math.fsum(known) / len(known) if known else None


def _peak(run: Result) -> float | None:
    """Of the increments alone: the first session may have been another run's."""
    return max((peak for phase in _increments(run) if (peak := number(phase.get("peak_mb"))) is not None), default=None)


def _increments(run: Result | None) -> list[Mapping[str, float]]:
    phases = [] if run is None else run.get("phases") or []
    return [phase for phase in phases if phase["phase"] == "learn" and phase["session"] > 0]
