"""The table of methods in a report: its rows, and these rows for a terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scrubjay.report.runs import Result, by_method, hashes, number

if TYPE_CHECKING:
    from rich.table import Table

METRICS = {"recall@1": "recall@1", "map_at_r": "mAP@R"}
"""Key in a result, and heading."""

COLUMNS = {"old": "old", "new": "new", "seen": "seen", "cross": "new queries, old gallery"}
"""Group of classes, and heading. In `cross`, queries are embedded by the last generation and the gallery by g0."""

KEYS = tuple((group, metric) for group in COLUMNS for metric in METRICS)
"""The columns of figures, in order."""

BACKBONE = "backbone, no training"
KEEPS_IMAGES = ("joint", "joint_slda")
"""The methods that train on the images of all sessions."""
NOT_MEASURED = "–"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure over seeds; scores are fractions.

    Attributes:
        mean: mean over the seeds that measured it; None when none did.
        half: half the width of the 95 % t-interval; None for fewer than two seeds.
    """

    mean: float | None
    half: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: one method, or the backbone without training.

    Attributes:
        label: name of the method, with its settings where it appears with several.
        seeds: number of runs averaged.
        keeps_images: it was trained on the images of all sessions: a reference that does not compete.
        cells: figures by (group, metric); groups are the keys of `COLUMNS`, and "own" for g0's queries on g0's gallery.
        best: the figures in which no row without old images is better, at the precision that is shown.
    """

    label: str
    seeds: int
    keeps_images: bool
    cells: Mapping[tuple[str, str], Estimate]
    best: frozenset[tuple[str, str]] = frozenset()


def estimate(values: Iterable[Any]) -> Estimate:
    """Mean and Student's 95 % interval, x̄ ± t(0.975, n−1) · s/√n, of the values that were measured.

    >>> estimate([0.5, None])
    Estimate(mean=0.5, half=None)
    """
    known = [value for value in map(number, values) if value is not None]
    count = len(known)
    if not known:
        return Estimate(None)
    mean = math.fsum(known) / count
    if count == 1:
        return Estimate(mean)
    from scipy.special import stdtrit

    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (count - 1))
    return Estimate(mean, float(stdtrit(count - 1, 0.975)) * deviation / math.sqrt(count))


def group_figure(entry: Mapping[str, Any] | None, metric: str) -> float | None:
    """One figure of a `groups` entry such as `groups[-1]["old"]`."""
    if entry is None:
        return None
    return number(entry["recall"].get("1") if metric == "recall@1" else entry[metric])


def rows(results: Sequence[Result]) -> list[Row]:
    """One row for each method, in the order given, after the backbone without training where that was measured.

    Raises:
        ConfigError: there are no results, or one run appears twice.
    """
    table = [
        Row(label, len(runs), runs[0]["method"] in KEEPS_IMAGES, _cells([_figures(run) for run in runs]))
        for label, runs in by_method(results).items()
    ]
    references = {run["seed"]: run["reference"] for run in reversed(results) if run.get("reference")}
    if references:
        cells = _cells([_of_groups(reference) for reference in references.values()])
        table.insert(0, Row(BACKBONE, len(references), False, cells))
    return _with_best(table)


def _figures(result: Result) -> dict[tuple[str, str], float | None]:
    figures = _of_groups(result["groups"][-1])
    for metric in METRICS:
        matrix = (result.get("compatibility") or {}).get(metric) or []
        measured = len(matrix) > 1  # with one session no gallery is older
        figures["cross", metric] = number(matrix[-1][0]) if measured else None
        figures["own", metric] = number(matrix[0][0]) if measured else None
    return figures


def _of_groups(entry: Mapping[str, Any]) -> dict[tuple[str, str], float | None]:
    return {(group, metric): group_figure(entry.get(group), metric) for group, metric in KEYS}


def _cells(figures: Sequence[Mapping[tuple[str, str], float | None]]) -> dict[tuple[str, str], Estimate]:
    return {
        (group, metric): estimate(run.get((group, metric)) for run in figures)
        for group in (*COLUMNS, "own")
        for metric in METRICS
    }


def _with_best(table: Sequence[Row]) -> list[Row]:
    rivals = [row for row in table if not row.keeps_images]
    best: dict[tuple[str, str], str] = {}
    for key in KEYS:
        means = [mean for row in rivals if (mean := row.cells[key].mean) is not None]
        if len(means) > 1:
            best[key] = percent(max(means))
    return [row if row.keeps_images else replace(row, best=_winning(row, best)) for row in table]


def _winning(row: Row, best: Mapping[tuple[str, str], str]) -> frozenset[tuple[str, str]]:
    return frozenset(key for key, shown in best.items() if percent(row.cells[key].mean) == shown)


def percent(value: float | None) -> str:
    """A fraction in per cent with one decimal, or a dash for what was not measured.

    >>> percent(0.5417), percent(-0.012), percent(None)
    ('54.2', '−1.2', '–')
    """
    if value is None:
        return NOT_MEASURED
    shown = f"{100 * value:.1f}".replace("-", "−")
    return "0.0" if shown == "−0.0" else shown


def heading(results: Sequence[Result]) -> str:
    """What was run: name of the recipe, classes, source, sessions."""
    first = results[0]
    sessions = first["sessions"]
    classes = sum(len(session["classes"]) for session in sessions)
    plural = "s" if len(sessions) > 1 else ""
    return (
        f"{first['name']} · {classes} classes of {first['data']['source']} learned in {len(sessions)} session{plural}"
    )


def seeds_note(table: Sequence[Row]) -> str:
    """Over how many seeds the figures are means; a single seed is named as such."""
    fewest, most = min(row.seeds for row in table), max(row.seeds for row in table)
    if most == 1:
        return "One seed."
    return f"Mean ± 95 % t-interval over {most if fewest == most else f'{fewest} to {most}'} seeds."


def caption(results: Sequence[Result], table: Sequence[Row]) -> str:
    """What the columns mean, for a reader who has not met them."""
    return (
        "Per cent, after the last session. Old: classes of earlier sessions; new: classes of the last session; seen:"
        " all classes in one gallery. New queries, old gallery: classes of the first session, gallery embedded by g0,"
        f" queries by g0 → by the last generation. Bold: best without old images. {seeds_note(table)}"
        f"{_streams_note(results)}"
    )


def _streams_note(results: Sequence[Result]) -> str:
    """Whether runs learned different streams: with one seed they cannot be compared, over seeds that is intended."""
    by_seed: dict[Any, set[tuple[str, ...]]] = {}
    for result in results:
        by_seed.setdefault(result["seed"], set()).add((hashes(result)[0], *result["data"]["classes"]))
    if any(len(streams) > 1 for streams in by_seed.values()):
        return " Runs with the same seed began with different images or classes."
    if len(set.union(*by_seed.values())) > 1:
        return " Every seed has its own order of classes."
    return ""


def summary(results: Sequence[Result]) -> Table:
    """The table for a terminal of 100 columns or more.

    Raises:
        ConfigError: there are no results, or one run appears twice.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    body = rows(results)
    table = Table(
        title=Text(heading(results), style="bold"),
        caption=Text(caption(results, body)),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column(Text("\n\nmethod"))
    for group, metric in KEYS:
        words = COLUMNS[group].replace(", ", ",\n")
        above = "" if "\n" in words else "\n"
        table.add_column(Text(f"{above}{words}\n{METRICS[metric]}"), justify="right", no_wrap=group != "cross")
    for row in body:
        style = "italic dim" if row.keeps_images else ""
        table.add_row(Text(display(row)), *(Text.assemble(*_rich(row, *key)) for key in KEYS), style=style)
    return table


def display(row: Row) -> str:
    """The label of a row; a reference that keeps all images says so."""
    return f"{row.label} (all images)" if row.keeps_images else row.label


def _rich(row: Row, group: str, metric: str) -> list[str | tuple[str, str]]:
    cell, own = row.cells[group, metric], row.cells["own", metric]
    before = f"{percent(own.mean)} → " if group == "cross" and cell.mean is not None else ""
    parts: list[str | tuple[str, str]] = [before]
    parts.append((f"{percent(cell.mean):>4}", "bold" if (group, metric) in row.best else ""))
    if cell.half is not None:
        spread = f"±{percent(own.half)}   " if before else ""
        parts.append((f"\n{spread}{'±' + percent(cell.half):>4}", "dim"))
    return parts


def markdown(results: Sequence[Result]) -> str:
    """The table as GitHub-flavoured Markdown, followed by its caption.

    Raises:
        ConfigError: there are no results, or one run appears twice.
    """
    body = rows(results)
    heads = ["method", *(f"{COLUMNS[group]} {METRICS[metric]}" for group, metric in KEYS)]
    lines = [heads, ["---", *("---:" for _ in KEYS)]]
    lines += [[display(row).replace("|", r"\|"), *(_marked(row, *key) for key in KEYS)] for row in body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{caption(results, body)}\n"


def _marked(row: Row, group: str, metric: str) -> str:
    now = with_interval(row.cells[group, metric])
    now = f"**{now}**" if (group, metric) in row.best else now
    own = row.cells["own", metric]
    return f"{with_interval(own)} → {now}" if group == "cross" and own.mean is not None else now


def with_interval(cell: Estimate) -> str:
    """A cell as text: `54.2`, or `54.2 ± 1.3` over seeds."""
    return percent(cell.mean) if cell.half is None else f"{percent(cell.mean)} ± {percent(cell.half)}"
