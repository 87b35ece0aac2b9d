"""Figures of a leaderboard, run by run: what a method kept, what it learned, and how far it is from the corner."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scrubjay.report.runs import Result, number
from scrubjay.report.table import METRICS, NOT_MEASURED, group_figure, percent

Figures = dict[str, float | None]
"""A value by the keys of `COLUMNS`; None: not measured."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the leaderboard.

    Attributes:
        title: heading of the column.
        unit: "%" for a fraction, which is shown in per cent, else "s" or "MB".
        lower: whether lower is better.
    """

    title: str
    unit: str = "%"
    lower: bool = False


TARGETS = {"old_kept": 1.0, "seen_of_joint": 0.98, "old_gallery_kept": 0.98}
"""The corner: a method that reaches all three targets has distance 0."""

OLD_GALLERY = ("old_gallery_absolute", "old_gallery_kept")
"""Both shares of the old gallery that was kept; the smaller one counts for the target `old_gallery_kept`."""

COLUMNS = {
    "corner": Column("distance to the corner", lower=True),
    "old_kept": Column("old kept"),
    "seen_of_joint": Column("seen of joint"),
    "old_gallery_absolute": Column("old gallery kept, of g0's own"),
    "old_gallery_kept": Column("old gallery kept, of re-indexed"),
    "seen.recall@1": Column("seen recall@1"),
    "seen.map_at_r": Column("seen mAP@R"),
    "cross.recall@1": Column("new queries, old gallery recall@1"),
    "cross.map_at_r": Column("new queries, old gallery mAP@R"),
    "bridged.recall@1": Column("over bridges: new queries, old gallery recall@1"),
    "bridged.map_at_r": Column("over bridges: new queries, old gallery mAP@R"),
    "ac": Column("AC"),
    "am": Column("AM"),
    "bc": Column("BC"),
    "bridged.ac": Column("AC over bridges"),
    "bridged.am": Column("AM over bridges"),
    "bridged.bc": Column("BC over bridges"),
    "flips.step": Column("negative flips in a step", lower=True),
    "flips.old_gallery": Column("negative flips, old gallery", lower=True),
    "flips.bridged": Column("negative flips, old gallery over bridges", lower=True),
    "own.map_at_r": Column("g0's queries, g0's gallery mAP@R"),
    "old.recall@1": Column("old recall@1"),
    "old.map_at_r": Column("old mAP@R"),
    "new.recall@1": Column("new recall@1"),
    "new.map_at_r": Column("new mAP@R"),
    "unseen.recall@1": Column("unseen recall@1"),
    "unseen.map_at_r": Column("unseen mAP@R"),
    "retained": Column("retained"),
    "gap": Column("normalised gap"),
    "forgetting": Column("forgetting", lower=True),
    "seconds": Column("learning one increment", "s", lower=True),
    "seconds_of_joint": Column("time of joint's", lower=True),
    "peak_mb": Column("peak memory", "MB", lower=True),
}
"""Every figure by its key in `leaderboard.json`, in the order of the columns."""


def shown(key: str, value: float | None) -> str:
    """A value as text: fractions in per cent and seconds with one decimal, memory with none.

    >>> shown("old_kept", 0.9714), shown("seconds", 61.26), shown("peak_mb", 1234.0), shown("gap", None)
    ('97.1', '61.3', '1,234', '–')
    """
    if value is None:
        return NOT_MEASURED
    unit = COLUMNS[key].unit
    if unit == "%":
        return percent(value)
    return f"{value:,.1f}" if unit == "s" else f"{value:,.0f}"


def figures(run: Result, joint: Result | None, finetune: Result | None) -> Figures:
    """All figures of a run.

    In mAP@R: old kept = Σ_{j<T} a[T][j] / Σ_{j<T} a[j][j]; seen of joint = seen / joint's seen; old gallery kept, of
    g0's own = C[T][0] / C[0][0]; of re-indexed = C[T][0] / R[T][0], where R has that gallery re-embedded by the last
    generation.

    Args:
        run: contents of a `result.json`.
        joint: the run of the upper reference with the same seed, or None.
        finetune: the run of fine-tuning with the same seed, or None.
    """
    values = of_groups(run["groups"][-1])
    for metric in METRICS:
        values[f"cross.{metric}"] = _on_first_gallery(run, "compatibility", metric, -1)
        values[f"bridged.{metric}"] = _on_first_gallery(run, "bridged", metric, -1)
    values["own.map_at_r"] = _on_first_gallery(run, "compatibility", "map_at_r", 0)
    accuracy = (run.get("accuracy") or {}).get("map_at_r") or []
    values["old_kept"] = old_kept(accuracy)
    values["retained"] = mean_retained((run.get("retained") or {}).get("map_at_r") or [])
    values["old_gallery_absolute"] = ratio(values["cross.map_at_r"], values["own.map_at_r"])
    values["old_gallery_kept"] = ratio(values["cross.map_at_r"], reindexed(run))
    values["forgetting"] = number(((run.get("continual") or {}).get("map_at_r") or {}).get("forgetting"))
    values |= _backward_compatibility(run) | _flips(run)
    values["seconds"] = _seconds(run)
    values["seconds_of_joint"] = ratio(values["seconds"], _seconds(joint))
    values["peak_mb"] = _peak(run)
    return with_references(values, joint, finetune)


def of_groups(entry: Mapping[str, Mapping[str, object] | None]) -> Figures:
    """Recall@1 and mAP@R of every group of classes; all other figures are None."""
    groups = {
        f"{group}.{metric}": group_figure(entry.get(group), metric)
        for group in ("old", "new", "seen", "unseen")
        for metric in METRICS
    }
    return {**dict.fromkeys(COLUMNS), **groups}


def of_reference(run: Result, joint: Result | None, finetune: Result | None) -> Figures:
    """The figures of the backbone without training, from a run that measured it.

    A network that never changes forgets nothing, and re-embedding its old gallery changes nothing: these figures
    follow by definition.
    """
    values = of_groups(run["reference"])
    if len(run["groups"]) > 1:
        values |= dict.fromkeys(("old_kept", "retained", *OLD_GALLERY), 1.0)
        values["forgetting"] = 0.0
    return with_references(values, joint, finetune)


def with_references(values: Figures, joint: Result | None, finetune: Result | None) -> Figures:
    """The figures, completed by those that compare with the two references."""
    best, plain = seen(joint), seen(finetune)
    values = {**values, "seen_of_joint": ratio(values["seen.map_at_r"], best)}
    values["gap"] = normalised_gap(values["seen.map_at_r"], plain, best)
    values["corner"] = corner(values)
    return values


def seen(run: Result | None) -> float | None:
    """MAP@R over all classes, after the last session."""
    return None if run is None else group_figure(run["groups"][-1].get("seen"), "map_at_r")


def reindexed(run: Result | None) -> float | None:
    """R[T][0] in mAP@R: the queries of C[T][0] on the same gallery, re-embedded by the last generation."""
    return None if run is None else _on_first_gallery(run, "reindex", "map_at_r", -1)


def first_gallery(run: Result | None) -> float | None:
    """C[0][0] in mAP@R: g0's queries on its own gallery."""
    return None if run is None else _on_first_gallery(run, "compatibility", "map_at_r", 0)


def _on_first_gallery(run: Result, key: str, metric: str, generation: int) -> float | None:
    """Entry [generation][0] of a matrix: queries by a generation on g0's gallery."""
    matrix = (run.get(key) or {}).get(metric) or []
    return number(matrix[generation][0]) if len(matrix) > 1 else None  # with one session no gallery is older


def old_kept(a: Sequence[Sequence[float | None]]) -> float | None:
    """Score on the classes of earlier sessions at the end, as a share of what it was when each was learned.

    >>> old_kept([[0.8, None], [0.4, 0.9]])
    0.5
    """
    pairs = [(number(a[-1][j]), number(a[j][j])) for j in range(len(a) - 1)]
    known = [(now, then) for now, then in pairs if now is not None and then is not None]
    if not known or len(known) < len(pairs):
        return None
    return ratio(math.fsum(now for now, _ in known), math.fsum(then for _, then in known))


def mean_retained(shares: Sequence[Sequence[float | None]]) -> float | None:
    """Mean over the earlier sessions j < T of a[T][j] / a[j][j]; each session counts the same, unlike in `old_kept`.

    >>> mean_retained([[1.0, None, None], [0.75, 1.0, None], [0.5, 1.0, 1.0]])
    0.75

    Args:
        shares: `retained` of a result.
    """
    values = [number(share) for share in shares[-1][:-1]] if shares else []
    return _mean(values)


def normalised_gap(value: float | None, finetune: float | None, joint: float | None) -> float | None:
    """(value − fine-tuning) / (joint − fine-tuning)."""
    if value is None or finetune is None or joint is None:
        return None
    return ratio(value - finetune, joint - finetune)


def corner(values: Mapping[str, float | None]) -> float | None:
    """Distance to the corner: √ Σ max(0, target − value)² over `TARGETS`; None where a value is unknown.

    Of the old gallery the smaller of the two shares in `OLD_GALLERY` counts: relative to re-indexing alone, a method
    would gain by forgetting, because that lowers the score of the re-indexed gallery too.

    >>> kept = {"old_gallery_kept": 1.2, "old_gallery_absolute": 0.58}
    >>> corner({"old_kept": 0.7, "seen_of_joint": 1.1, **kept})
    0.5
    """
    missing = 0.0
    for key, target in TARGETS.items():
        parts = [values[part] for part in (OLD_GALLERY if key == "old_gallery_kept" else (key,))]
        known = [value for value in parts if value is not None]
        if len(known) < len(parts):
            return None
        missing += max(0.0, target - min(known)) ** 2
    return math.sqrt(missing)


def ratio(part: float | None, whole: float | None) -> float | None:
    """`part` / `whole`; None where one is unknown, or the whole is 0."""
    return part / whole if part is not None and whole else None


def _backward_compatibility(run: Result) -> Figures:
    """AC, AM and BC in mAP@R, of the plain matrix and of the one with bridges."""
    both: Mapping[str, Any] = run.get("backward_compatibility") or {}
    values: Figures = {}
    for kind, prefix in (("plain", ""), ("bridged", "bridged.")):
        summary = (both.get(kind) or {}).get("map_at_r") or {}
        values |= {f"{prefix}{name}": number(summary.get(name)) for name in ("ac", "am", "bc")}
    return values


def _flips(run: Result) -> Figures:
    """Negative flip rates: mean over single steps with re-indexed galleries, and of the last generation since g0."""
    rates: Mapping[str, Any] = run.get("negative_flips") or {}
    steps = rates.get("reindexed") or []
    values: Figures = {"flips.step": _mean([number(steps[t][t - 1]) for t in range(1, len(steps))])}
    for kind in ("old_gallery", "bridged"):
        matrix = rates.get(kind) or []
        values[f"flips.{kind}"] = number(matrix[-1][0]) if len(matrix) > 1 else None
    return values


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where there is no value or one is unknown."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def _seconds(run: Result | None) -> float | None:
    """Mean seconds of learning one increment."""
    taken = [number(phase["seconds"]) for phase in _increments(run)]
    known = [seconds for seconds in taken if seconds is not None]
    return math.fsum(known) / len(known) if known else None


def _peak(run: Result) -> float | None:
    """Peak memory of learning the increments. The initial session is left out: it may have been another run's."""
    return max((peak for phase in _increments(run) if (peak := number(phase.get("peak_mb"))) is not None), default=None)


def _increments(run: Result | None) -> list[Mapping[str, Any]]:
    phases = [] if run is None else run.get("phases") or []
    return [phase for phase in phases if phase["phase"] == "learn" and phase["session"] > 0]
