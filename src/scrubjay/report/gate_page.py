"""Renders the gate's report: lines for a terminal, and one self-contained HTML file. It decides nothing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from scrubjay.gate.report import Check, Figures, GateReport
from scrubjay.report.html import environment, thumbnail, write_page
from scrubjay.report.table import NOT_MEASURED, percent

SHOWN = 48
"""Number of negative flips that the page shows with their images."""
METRICS = {"recall_at_1": "recall@1", "map_at_r": "mAP@R"}
GROUPS = {"old": "old classes", "new": "new classes", "seen": "all classes"}
DIRECTIONS = {"to_parent": "queries to older vectors", "from_parent": "older queries to new vectors"}
FIGURES = {
    "map_at_r": "mAP@R, held-out images",
    "recall@1": "recall@1, held-out images",
    "cosine": "cosine, held-out images",
    "left_out_map_at_r": "mAP@R, left-out classes",
    "sample_map_at_r": "mAP@R, gallery items",
}
"""Headings of the figures by which bridges are judged, in the order of the columns; see `scrubjay.bridges.choose`."""
CHECKS = {
    "old_retention": "retained on old classes",
    "negative_flips": "negative flips on old classes",
    "new_gain": "gain in recall@1 on new classes",
}


@dataclass(frozen=True, slots=True)
class CheckRow:
    """A limit of the gate as it is shown.

    Attributes:
        name: name of the option.
        title: what the limit is about.
        measured: the measured value.
        evidence: the best value that is consistent with the probe images, and the number of images.
        limit: the limit, with "at least" or "at most".
        passed: None where nothing could be measured.
    """

    name: str
    title: str
    measured: str
    evidence: str
    limit: str
    passed: bool | None


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """Figures before and after as they are shown.

    Attributes:
        label: name of the group.
        size: number of queries and classes, or of items.
        cells: before, after and their difference, for each metric.
    """

    label: str
    size: str
    cells: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next: a sentence, and the command for it, or "" where there is none."""

    text: str
    command: str = ""


def write_gate_page(path: Path, report: GateReport, folder: str) -> None:
    """Write the page; an existing file is replaced only when the new one is complete.

    Args:
        path: path of the HTML file; its folder is created.
        report: the report. Images that cannot be read become empty tiles with their name.
        folder: folder of the catalogue, for the commands.

    Raises:
        StorageError: the file cannot be written.
    """
    write_page(path, page(report, folder))


def page(report: GateReport, folder: str) -> str:
    """The HTML text of the page."""
    templates = environment()
    templates.filters |= {"thumbnail": thumbnail, "file": _file, "figure": _figure}
    return templates.get_template("gate.html.j2").render(
        report=report,
        verdict=verdict(report),
        reasons=_reasons(report),
        checks=check_rows(report),
        changes=change_rows(report),
        sample=_sample_rows(report),
        metrics=METRICS,
        flips=report.flips[:SHOWN],
        more=max(0, len(report.flips) - SHOWN),
        bridges={DIRECTIONS[name]: record for name, record in (report.bridges or {}).items() if name in DIRECTIONS},
        figures=FIGURES,
        cost=_cost(report),
        steps=next_steps(report, folder),
        probe=_probe(report),
    )


def gate_lines(report: GateReport, folder: str) -> list[str]:
    """The report for a terminal."""
    lines = [f"{'PASS' if report.passed else 'FAIL'}: {verdict(report)}"]
    lines += [f"  {reason}" for reason in _reasons(report)]
    changes = [*change_rows(report), *_sample_rows(report)]
    if changes:
        lines += ["", *_table(changes)]
    checks = check_rows(report)
    if checks:
        lines += [
            "",
            *(f"{row.title}: {row.measured}, {row.limit}{_mark(row.passed)}; {row.evidence}" for row in checks),
        ]
    for name, record in (report.bridges or {}).items():
        lines.append(f"bridge, {DIRECTIONS.get(name, name)}: {record.chosen}")
    if report.probe_images:
        lines.append(f"measured on {_probe(report)}")
    if report.backfill is not None:
        lines.append(f"backfill: {_cost(report)}")
    for step in next_steps(report, folder):
        lines.append(f"{step.text}: {step.command}" if step.command else step.text)
    return lines


def verdict(report: GateReport) -> str:
    """The decision in one sentence."""
    if report.passed:
        return f"{report.candidate} may answer queries"
    return f"{report.candidate} must not answer queries; {report.serving} continues to"


def check_rows(report: GateReport) -> list[CheckRow]:
    """The limits beside what was measured."""
    return [
        CheckRow(
            check.name,
            CHECKS[check.name],
            _with_unit(check, check.measured),
            _evidence(check),
            f"{'at least' if check.kind == 'minimum' else 'at most'} {_with_unit(check, check.limit)}",
            check.passed,
        )
        for check in report.checks
    ]


def _with_unit(check: Check, value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{_signed(value)} points" if check.name == "new_gain" else f"{percent(value)} %"


def _evidence(check: Check) -> str:
    """What the probe images allow to conclude, and how many of them the limit needs."""
    if check.bound is None:
        return "no probe image to judge by"
    images = f"{check.images} probe {'image' if check.images == 1 else 'images'}"
    relation = "as much as" if check.kind == "minimum" else "as little as"
    evidence = (
        f"{images} {'is' if check.images == 1 else 'are'} consistent with {relation} {_with_unit(check, check.bound)}"
    )
    if check.bound == float("inf"):
        evidence = f"{images}: too few for a conclusion"
    if check.images_needed is not None and check.images_needed > check.images:
        evidence += f"; {check.images_needed} without a loss would prove that the limit is kept"
    return evidence


def change_rows(report: GateReport) -> list[ChangeRow]:
    """Retrieval of old, new and all classes by the serving generation and by the candidate."""
    rows = []
    for name, label in GROUPS.items():
        change = (report.groups or {}).get(name)
        if change is not None:
            size = f"{_counted(change.queries, 'query', 'queries')}, {_counted(change.classes, 'class', 'classes')}"
            rows.append(ChangeRow(label, size, _cells(change.before, change.after)))
    return rows


def next_steps(report: GateReport, folder: str) -> list[Step]:
    """What to do after this report."""
    candidate, quoted = report.candidate, shlex.quote(folder)
    if not report.passed:
        return [
            Step(_advice(report)),
            Step("To promote it all the same", f"scrubjay promote {quoted} {candidate} --force"),
        ]
    steps = [Step("Next", f"scrubjay promote {quoted} {candidate}")]
    if report.backfill is not None and report.backfill.items:
        steps.append(Step("Then, to re-embed older items", f"scrubjay backfill {quoted} --plan"))
    return steps


def _advice(report: GateReport) -> str:
    if not report.groups:
        return "Next: learn the next classes with probe images (option probe.images), and judge that generation."
    sample = report.sample
    if sample is not None and sample.stored is not None and sample.reindexed is not None:
        stored, reembedded = sample.stored.map_at_r, sample.reindexed.map_at_r
        if reembedded > stored:
            return (
                f"Next: {report.candidate} retrieves well, but its queries do not reach older vectors well: with a "
                f"sample re-embedded, mAP@R is {percent(reembedded)} % instead of {percent(stored)} %. Learn these "
                f"classes with a method that stays nearer to {report.serving}."
            )
    return "Next: learn these classes again, with more images of them or with a method that forgets less."


def _reasons(report: GateReport) -> list[str]:
    return [*report.reasons, *([report.note] if report.note else [])]


def _sample_rows(report: GateReport) -> list[ChangeRow]:
    """A sample of the gallery as it is stored, and re-embedded by the candidate."""
    sample = report.sample
    if sample is None or sample.stored is None or sample.reindexed is None:
        return []
    return [ChangeRow("re-embedded", f"a sample of {sample.items} items", _cells(sample.stored, sample.reindexed))]


def _cells(before: Figures, after: Figures) -> tuple[tuple[str, str, str], ...]:
    pairs = [(getattr(before, name), getattr(after, name)) for name in METRICS]
    return tuple((percent(old), percent(new), _signed(new - old)) for old, new in pairs)


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _signed(value: float) -> str:
    shown = percent(value)
    return shown if shown.startswith("−") else f"+{shown}"


def _table(rows: list[ChangeRow]) -> list[str]:
    """Aligned columns: group, each metric before → after, size of the group."""
    cells = [["%", *METRICS.values(), ""]]
    cells += [[row.label, *(f"{old} → {new} ({change})" for old, new, change in row.cells), row.size] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _mark(passed: bool | None) -> str:
    if passed is None:
        return ""
    return " ✓" if passed else " ✗"


def _probe(report: GateReport) -> str:
    if not report.probe_images:
        return ""
    kind = "probe images" if report.probe_kind == "images" else "probe images, kept as embeddings"
    return f"{report.probe_images:,} {kind}"


def _cost(report: GateReport) -> str:
    cost = report.backfill
    if cost is None:
        return ""
    return (
        f"{cost.items:,} items would be re-embedded, in about {_duration(cost.seconds)} at "
        f"{cost.images_per_second:,.0f} items/s here"
    )


def _duration(seconds: float) -> str:
    """Seconds in the unit that a person would use.

    >>> _duration(12.2), _duration(200), _duration(7300)
    ('12 s', '3 min', '2.0 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _figure(figures: Mapping[str, float], key: str) -> str:
    """A figure of a bridge: shares in per cent, cosines as they are."""
    value = figures.get(key)
    if value is None:
        return NOT_MEASURED
    return f"{value:.3f}".replace("-", "−") if key == "cosine" else percent(value)


def _file(uri: str) -> Path:
    """The file of a URI; for other places a path that does not exist."""
    parts = urlsplit(uri) if uri.startswith("file://") else None
    return Path(uri if parts is None else unquote(parts.path))
