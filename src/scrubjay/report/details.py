"""What a report shows of its runs besides the main table: facts, stream figures, settings, seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scrubjay.report.runs import Result, by_method, hashes, settings
from scrubjay.report.table import METRICS, NOT_MEASURED, Estimate, estimate

STREAM = {
    "average": "average",
    "average_incremental": "average incremental",
    "forgetting": "forgetting",
    "backward_transfer": "backward transfer",
    "forward_transfer": "forward transfer",
}
"""Figures over the whole stream: key in a result, and heading."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Settings, versions and data of methods.

    Attributes:
        shared: dotted key and value of every setting that all methods have in common.
        labels: the methods, in order.
        differing: dotted key of every other setting, and its value for each method.
    """

    shared: list[tuple[str, str]]
    labels: list[str]
    differing: list[tuple[str, list[str]]]


@dataclass(frozen=True, slots=True)
class Seconds:
    """Time spent by a method, as means over its seeds.

    Attributes:
        label: label of the method.
        totals: by phase, over all sessions: seconds and images per second, "–" where not measured.
        sessions: session (0 for the initial one), phase, seconds and images per second of each phase of each session.
    """

    label: str
    totals: dict[str, tuple[str, str]]
    sessions: list[tuple[int, str, str, str]]


def facts(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Numbers for the head of the page, each with its unit: methods, seeds, sessions, classes and images."""
    sessions = results[0]["sessions"]
    counts = [
        (len(by_method(results)), "method"),
        (len({result["seed"] for result in results}), "seed"),
        (len(sessions), "session"),
        (sum(len(session["classes"]) for session in sessions), "class"),
        (sum(session["train"] for session in sessions), "training image"),
        (sum(session["test"] for session in sessions), "test image"),
    ]
    return [(f"{count:,}", _plural(name, count)) for count, name in counts]


def _plural(name: str, count: int) -> str:
    if count == 1:
        return name
    return f"{name}es" if name.endswith("s") else f"{name}s"


def stream(results: Sequence[Result]) -> dict[str, dict[tuple[str, str], Estimate]]:
    """Figures over the whole stream by method, then by (figure, metric); methods without any are left out."""
    by_label = {
        label: {
            (figure, metric): estimate(((run.get("continual") or {}).get(metric) or {}).get(figure) for run in runs)
            for figure in STREAM
            for metric in METRICS
        }
        for label, runs in by_method(results).items()
    }
    return {label: cells for label, cells in by_label.items() if any(cell.mean is not None for cell in cells.values())}


def compare(results: Sequence[Result]) -> Comparison:
    """The settings that all methods have in common, and those that differ."""
    labels, by_label = [], []
    for label, runs in by_method(results).items():
        labels.append(label)
        by_label.append(_all_settings(runs))
    keys = list(dict.fromkeys(key for values in by_label for key in values))
    same = [key for key in keys if len({values.get(key) for values in by_label}) == 1]
    return Comparison(
        [(key, by_label[0][key]) for key in same],
        labels,
        [(key, [values.get(key, NOT_MEASURED) for values in by_label]) for key in keys if key not in same],
    )


def _all_settings(runs: Sequence[Result]) -> dict[str, str]:
    first = runs[0]
    versions = {f"version of {name}": str(version) for name, version in (first.get("versions") or {}).items()}
    return {
        **settings(first),
        "version of scrubjay": str(first["scrubjay"]),
        **versions,
        "data": str(first["data"]["source"]),
        "hash of each session's images": ", ".join(dict.fromkeys(digest for run in runs for digest in hashes(run))),
        "seeds": ", ".join(str(run["seed"]) for run in runs) if len(runs) > 1 else str(first["seed"]),
    }


def seconds(results: Sequence[Result]) -> list[Seconds]:
    """Seconds and images per second of every phase, by method; methods without recorded phases are left out."""
    methods = []
    for label, runs in by_method(results).items():
        phases = [phase for run in runs for phase in run.get("phases") or ()]
        names = dict.fromkeys(phase["phase"] for phase in phases)
        steps = dict.fromkeys((phase["session"], phase["phase"]) for phase in phases)
        totals = {name: _spent([phase for phase in phases if phase["phase"] == name], len(runs)) for name in names}
        sessions = [
            (
                session,
                name,
                *_spent([p for p in phases if (p["session"], p["phase"]) == (session, name)], len(runs)),
            )
            for session, name in steps
        ]
        if phases:
            methods.append(Seconds(label, totals, sessions))
    return methods


def _spent(phases: Sequence[Result], runs: int) -> tuple[str, str]:
    """Mean seconds over the runs, and images per second, as text."""
    taken = sum(phase["seconds"] for phase in phases)
    timed = [phase for phase in phases if phase.get("images")]
    images, during = sum(phase["images"] for phase in timed), sum(phase["seconds"] for phase in timed)
    return f"{taken / runs:,.1f}", f"{images / during:,.0f}" if images and during else NOT_MEASURED
