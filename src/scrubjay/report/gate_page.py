"""The gate's report: lines for a terminal, and one HTML file that needs nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from scrubjay.report.html import environment, thumbnail, write_page
from scrubjay.report.table import METRICS, NOT_MEASURED, percent

SHOWN = 48
"""Negative flips with their images on the page."""
GROUPS = {"old": "old classes", "new": "new classes", "seen": "all classes"}
SAMPLE = {"stored": "vectors as they are", "reindexed": "embedded by the candidate"}
DIRECTIONS = {"to_parent": "queries to older vectors", "from_parent": "older queries to new vectors"}
FIGURES = {
    "map_at_r": "mAP@R, held out",
    "recall@1": "recall@1, held out",
    "cosine": "cosine, held out",
    "left_out_map_at_r": "mAP@R, class left out",
    "sample_map_at_r": "mAP@R, gallery",
}
"""What bridges are judged by, in the order of its columns; `scrubjay.bridges.choose` measures it."""


@dataclass(frozen=True, slots=True)
class Check:
    """A threshold.

    Attributes:
        name: the option's.
        what: what it says, in words.
        measured: as shown.
        limit: as shown, with "at least" or "at most".
        kept: None where nothing could be measured.
    """

    name: str
    what: str
    measured: str
    limit: str
    kept: bool | None


@dataclass(frozen=True, slots=True)
class Change:
    """A row of figures before and after.

    Attributes:
        label: of what.
        size: of how much.
        cells: before, after and the difference, as shown, a metric each.
    """

    label: str
    size: str
    cells: tuple[tuple[str, str, str], ...]


def write_gate_page(path: Path, report: Mapping[str, Any]) -> None:
    """Write the page; a file that is there already is replaced only when the new one is complete.

    Args:
        path: of the HTML file; its folder is made.
        report: what `Catalogue.gate` returns. Images that cannot be read become empty tiles with their name.

    Raises:
        StorageError: the file cannot be written.
    """
    write_page(path, page(report))


def page(report: Mapping[str, Any]) -> str:
    """The text of the page."""
    templates = environment()
    templates.filters |= {"thumbnail": thumbnail, "file": _file, "figure": _figure}
    flips = report.get("flips") or []
    return templates.get_template("gate.html.j2").render(
        report=report,
        passed=report["passed"],
        verdict=verdict(report),
        reasons=_reasons(report),
        checks=checks(report),
        changes=changes(report),
        sample=_sample(report),
        metrics=METRICS,
        flips=flips[:SHOWN],
        more=max(0, len(flips) - SHOWN),
        bridges={DIRECTIONS[key]: value for key, value in (report.get("bridges") or {}).items() if key in DIRECTIONS},
        figures=FIGURES,
        cost=_cost(report),
        steps=steps(report),
        probe=_probe(report),
    )


def gate_lines(report: Mapping[str, Any]) -> list[str]:
    """The report for a terminal, a line each."""
    lines = [f"{'PASS' if report['passed'] else 'FAIL'}: {verdict(report)}"]
    lines += [f"  {reason}" for reason in _reasons(report)]
    if found := [change for change in (*changes(report), *_sample(report)) if change]:
        lines += ["", *_table(found)]
    if found_checks := checks(report):
        lines += ["", *(f"{each.what}: {each.measured} ({each.limit}){_mark(each.kept)}" for each in found_checks)]
    chosen = {key: value["chosen"] for key, value in (report.get("bridges") or {}).items() if "chosen" in value}
    lines += [f"bridge, {DIRECTIONS.get(key, key)}: {kind}" for key, kind in chosen.items()]
    lines += [f"measured on {words}" for words in [_probe(report)] if words]
    lines += [f"backfill: {words}" for words in [_cost(report)] if words]
    return [*lines, *(f"{what}: {command}" if command else what for what, command in steps(report))]


def verdict(report: Mapping[str, Any]) -> str:
    """The decision in a sentence."""
    candidate, serving = report["candidate"], report["serving"]
    return f"{candidate} may answer queries" if report["passed"] else f"{candidate} must not answer; {serving} goes on"


def checks(report: Mapping[str, Any]) -> list[Check]:
    """What was measured beside what is asked for; empty where nothing was measured."""
    limits = report.get("thresholds") or {}
    rows = (
        ("old_retention", "kept on old classes", "at least", percent, "%"),
        ("negative_flips", "old images found now and lost then", "at most", percent, "%"),
        ("new_gain", "gain in recall@1 on new classes", "at least", _signed, "points"),
    )
    return [
        Check(
            name,
            what,
            f"{shown(value)} {unit}" if value is not None else "not measured",
            f"{bound} {shown(limits[name])} {unit}",
            None if value is None else bool(value <= limits[name] if bound == "at most" else value >= limits[name]),
        )
        for name, what, bound, shown, unit in rows
        if name in limits
        for value in [report.get(name)]
    ]


def changes(report: Mapping[str, Any]) -> list[Change]:
    """What is found of old, new and all classes: serving → candidate; groups without queries are left out."""
    groups = report.get("groups") or {}
    return [
        Change(
            label,
            f"{group['queries']} {'query' if group['queries'] == 1 else 'queries'}, "
            f"{group['classes']} {'class' if group['classes'] == 1 else 'classes'}",
            _cells(group["before"], group["after"]),
        )
        for key, label in GROUPS.items()
        if (group := groups.get(key)) is not None
    ]


def steps(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What to do now: words, and a command or "" ."""
    candidate, folder = report["candidate"], shlex.quote(str(report.get("catalogue", "FOLDER")))
    if report["passed"]:
        found = [("Next", f"scrubjay promote {folder} {candidate}")]
        waiting = (report.get("backfill") or {}).get("items")
        return [*found, ("Then, to bring older vectors up to date", f"scrubjay backfill {folder} --plan")][
            : 2 if waiting else 1
        ]
    return [
        (_advice(report), ""),
        ("To promote it all the same", f"scrubjay promote {folder} {candidate} --force"),
    ]


def _advice(report: Mapping[str, Any]) -> str:
    candidate = report["candidate"]
    if not report.get("groups"):
        return "Next: keep probe images (option probe.images) when the next classes are learned, and gate that one."
    sample = report.get("sample") or {}
    stored, anew = sample.get("stored"), sample.get("reindexed")
    if stored and anew and anew["map_at_r"] > stored["map_at_r"]:
        return (
            f"Next: {candidate} sees well but reaches older vectors badly: a sample embedded anew has mAP@R "
            f"{percent(anew['map_at_r'])} % instead of {percent(stored['map_at_r'])} %. Learn these classes with a "
            f"method that stays nearer to {report['serving']}."
        )
    return "Next: learn these classes again, with more images of them or with a method that forgets less."


def _reasons(report: Mapping[str, Any]) -> list[str]:
    note = report.get("note")
    return [*map(str, report.get("reasons") or ()), *([str(note)] if note else [])]


def _sample(report: Mapping[str, Any]) -> list[Change]:
    """A sample of the gallery: as it is stored, and embedded by the candidate."""
    sample = report.get("sample") or {}
    if not sample.get("stored") or not sample.get("reindexed"):
        return []
    return [
        Change("embedded anew", f"a sample of {sample['items']} items", _cells(sample["stored"], sample["reindexed"]))
    ]


def _cells(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[tuple[str, str, str], ...]:
    return tuple((percent(before[key]), percent(after[key]), _signed(after[key] - before[key])) for key in METRICS)


def _signed(value: float | None) -> str:
    shown = percent(value)
    return shown if value is None or shown.startswith("−") else f"+{shown}"


def _table(rows: list[Change]) -> list[str]:
    """Columns that line up: what, each metric before → after, and of how much."""
    cells = [["%", *METRICS.values(), ""]]
    cells += [[row.label, *(f"{old} → {new} ({more})" for old, new, more in row.cells), row.size] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _mark(kept: bool | None) -> str:
    return "" if kept is None else " ✓" if kept else " ✗"


def _probe(report: Mapping[str, Any]) -> str:
    probe = report.get("probe") or {}
    if not probe.get("images"):
        return ""
    of = "probe images" if probe["kind"] == "images" else "probe images, kept as embeddings and carried"
    return f"{probe['images']:,} {of}"


def _cost(report: Mapping[str, Any]) -> str:
    cost = report.get("backfill")
    if not cost:
        return ""
    return (
        f"{cost['items']:,} items would be embedded anew, about {_duration(cost['seconds'])} at "
        f"{cost['images_per_second']:,.0f} images/s here"
    )


def _duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> _duration(12.2), _duration(200), _duration(7300)
    ('12 s', '3 min', '2.0 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _figure(figures: Mapping[str, float], key: str) -> str:
    """A bridge's figure: shares in per cent, cosines as they are."""
    value = figures.get(key)
    if value is None:
        return NOT_MEASURED
    return f"{value:.3f}".replace("-", "−") if key == "cosine" else percent(value)


def _file(uri: str) -> Path:
    """The file that a uri names; for other places a name under which nothing lies."""
    parts = urlsplit(uri) if uri.startswith("file://") else None
    return Path(uri if parts is None else unquote(parts.path))
