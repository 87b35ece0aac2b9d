"""Plots of runs as figures, and these as SVG text: no global state, colours safe for colour-blind readers."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator
from numpy.typing import NDArray

from scrubjay.report.plot_labels import Mark, label_ends, label_points
from scrubjay.report.runs import Result, by_method, number
from scrubjay.report.table import BACKBONE, KEEPS_IMAGES, METRICS, Estimate, Row, estimate, group_figure

# Okabe and Ito's palette without its yellow, which is too light on white; black is the reference's.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = "osD^vPX*<>"
_INK, _FAINT = "#333f48", "#d5dade"
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "svg.hashsalt": "scrubjay",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#9aa5ad",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e9ecef",
    "grid.linewidth": 0.8,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 2,
    "lines.markersize": 6,
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_GREY = "#6b7780"
_NOTE: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8.5, "color": _GREY}
_POINTS_IN_SESSION = 120
FEW = 8
"""Largest number of methods for which `trade_off` draws intervals."""


@rc_context(_STYLE)
def over_sessions(results: Sequence[Result], group: str, metric: str) -> Figure | None:
    """One line for each method: a figure of a group of classes after every session, with a band over seeds.

    Args:
        results: runs on one stream.
        group: "old", "new", "seen" or "unseen".
        metric: a key of `METRICS`.

    Returns:
        The figure, or None when nothing was measured.
    """
    figure, axes = _canvas()
    methods = by_method(results)
    marks = []
    for (label, runs), (colour, marker) in zip(methods.items(), _looks(list(methods)), strict=True):
        if points := _line(runs, group, metric):
            x, y, half = np.array(points).T
            dashes = "--" if runs[0]["method"] in KEEPS_IMAGES else "-"
            axes.plot(x, y, dashes, color=colour, marker=marker, markeredgecolor="white")
            axes.fill_between(x, y - half, y + half, color=colour, alpha=0.15, linewidth=0)
            marks.append(Mark(x[-1], y[-1], label, colour))
    if not marks:
        return None
    marks += _backbone(axes, results, group, metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    axes.xaxis.set_major_formatter("g{x:.0f}")
    axes.set(xlabel="after learning generation", ylabel=f"{METRICS[metric]} of {group} classes, %")
    label_ends(axes, marks)
    return figure


def _backbone(axes: Axes, results: Sequence[Result], group: str, metric: str) -> list[Mark]:
    references = [run["reference"] for run in results if run.get("reference")]
    known = estimate(group_figure(reference.get(group), metric) for reference in references).mean
    if known is None:
        return []
    mark = Mark(len(results[0]["groups"]) - 1, 100 * known, "no training", _GREY)
    axes.plot([mark.x], [mark.y], "x", color=_GREY, markeredgewidth=2)
    return [mark]


def _line(runs: Sequence[Result], group: str, metric: str) -> list[tuple[int, float, float]]:
    points = []
    for session in range(min(len(run["groups"]) for run in runs)):
        cell = estimate(group_figure(run["groups"][session].get(group), metric) for run in runs)
        if cell.mean is not None:
            points.append((session, 100 * cell.mean, 100 * (cell.half or 0.0)))
    return points


@rc_context(_STYLE)
def trade_off(table: Sequence[Row], goal: tuple[float, float] | None = None, wide: bool = False) -> Figure | None:
    """Learning against compatibility with the old index: one point for each method; the upper right is best.

    x: mAP@R of all classes seen. y: mAP@R of the last generation's queries on the gallery that g0 embedded. Two
    dotted lines meet in the point to reach: as good as keeping all images, and as good as g0 on its own gallery.

    Args:
        table: the rows.
        goal: a point to mark as the corner, as fractions: x, y.
        wide: draw it as wide as a page, for many methods. With more than `FEW`, intervals are left out, because they
            would overlap.

    Returns:
        The figure, or None when no method has both figures.
    """
    shown = [row for row in table if row.label != BACKBONE]
    before = estimate(row.cells["own", "map_at_r"].mean for row in shown).mean
    figure, axes = _canvas(*((9.5, 5.2) if wide else (4.75, 3.0)))  # no names in its right margin
    marks = _points(axes, shown)
    if not marks or before is None:
        return None
    axes.axhline(100 * before, color=_GREY, linestyle=":", linewidth=1.2)
    if goal is not None:
        axes.plot([100 * goal[0]], [100 * goal[1]], "*", color=_GREY, markersize=13)
        marks.append(Mark(100 * goal[0], 100 * goal[1], "the corner", _GREY))
    axes.margins(0.1 if wide else 0.15)
    edge = axes.get_yaxis_transform()
    axes.annotate("before: g0 on its own gallery", (0, 100 * before), (3, 4), xycoords=edge, **_NOTE)
    axes.set(xlabel="mAP@R of all classes seen, %", ylabel="new queries, old gallery:\nmAP@R, %")
    label_points(figure, axes, marks)
    return figure


def _points(axes: Axes, shown: Sequence[Row]) -> list[Mark]:
    marks = []
    for row, (colour, marker) in zip(shown, _looks([row.label for row in shown]), strict=True):
        x, y = row.cells["seen", "map_at_r"], row.cells["cross", "map_at_r"]
        if x.mean is None or y.mean is None:
            continue
        if len(shown) <= FEW:
            _cross(axes, x, y, colour)
        axes.plot([100 * x.mean], [100 * y.mean], marker, color=colour, markersize=9, markeredgecolor="white")
        marks.append(Mark(100 * x.mean, 100 * y.mean, row.label, colour))
        if row.keeps_images:
            axes.axvline(100 * x.mean, color=_GREY, linestyle=":", linewidth=1.2)
            side = axes.get_xaxis_transform()
            axes.annotate("keeps all images", (100 * x.mean, 0.3), (3, 0), xycoords=side, rotation=90, **_NOTE)
    return marks


def _cross(axes: Axes, x: Estimate, y: Estimate, colour: str) -> None:
    if x.mean is not None and y.mean is not None and (x.half or y.half):
        wide, high = 100 * (x.half or 0.0), 100 * (y.half or 0.0)
        axes.errorbar(100 * x.mean, 100 * y.mean, yerr=high, xerr=wide, color=colour, linewidth=1, alpha=0.6)


@rc_context(_STYLE)
def heat_maps(results: Sequence[Result], matrix: str, metric: str) -> dict[str, Figure]:
    """One heat map for each method of a matrix of results, all on one colour scale, as means over seeds.

    Numbers without a colour are of classes that were not learned yet.

    Args:
        results: runs on one stream.
        matrix: key in a result: "accuracy" (a[t][j]), "compatibility" (C[t][k]) or "bridged".
        metric: a key of `METRICS`.

    Returns:
        Figures by the label of the method; methods without that matrix are left out.
    """
    means = {}
    for label, runs in by_method(results).items():
        known = [run[matrix][metric] for run in runs if (run.get(matrix) or {}).get(metric)]
        if known:
            means[label] = 100 * _mean_matrix(known)
    learned = [value for mean in means.values() for value in mean[np.tril_indices(len(mean))] if math.isfinite(value)]
    if not learned:
        return {}
    return {label: _heat_map(mean, matrix, min(learned), max(learned)) for label, mean in means.items()}


def _mean_matrix(matrices: Sequence[Sequence[Sequence[float | None]]]) -> NDArray[np.float64]:
    size = min(len(matrix) for matrix in matrices)
    means = [[estimate(matrix[t][j] for matrix in matrices).mean for j in range(size)] for t in range(size)]
    return np.array(means, dtype=np.float64)


def _heat_map(mean: NDArray[np.float64], matrix: str, low: float, high: float) -> Figure:
    size = len(mean)
    figure = Figure(figsize=(3, 3))
    axes = figure.add_subplot()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    lower = np.ma.masked_invalid(np.where(np.tri(size, dtype=bool), mean, np.nan))
    # the scale starts below the lowest value, because white cells are those that were not measured
    axes.imshow(lower, cmap="Blues", vmin=low - 0.3 * (high - low) - 1, vmax=high + 0.15 * (high - low) + 1)
    for t, j in zip(*np.nonzero(np.isfinite(mean)), strict=True):
        dark = j <= t and mean[t, j] > low + 0.5 * (high - low)
        ink = "white" if dark else _INK if j <= t else "#8b969e"
        axes.text(j, t, f"{mean[t, j]:.0f}", ha="center", va="center", color=ink, fontsize=min(11, 50 / size))
    ticks = range(0, size, math.ceil(size / 10))
    accuracy = matrix == "accuracy"
    axes.set_xticks(list(ticks), [str(k) if accuracy else f"g{k}" for k in ticks])
    axes.set_yticks(list(ticks), [f"g{t}" for t in ticks])
    axes.set(xlabel="classes of session" if accuracy else "gallery by", ylabel="after" if accuracy else "queries by")
    return figure


@rc_context(_STYLE)
def loss_curves(run: Result) -> Figure | None:
    """The terms of the objective over all sessions; long curves are averaged over equal intervals of steps.

    Returns:
        The figure, or None when nothing was trained.
    """
    lines, starts = _terms(run)
    if not lines:
        return None
    figure, axes = _canvas()
    _draw_terms(axes, lines)
    for position, name in starts:
        axes.axvline(position, color=_FAINT, linewidth=1, zorder=0)
        axes.annotate(name, (position, 1), (3, -2), xycoords=axes.get_xaxis_transform(), va="top", **_NOTE)
    axes.grid(visible=False, axis="x")
    axes.set(xlabel="training step", ylabel="loss term, weighted")
    return figure


def _terms(run: Result) -> tuple[dict[str, NDArray[np.float64]], list[tuple[float, str]]]:
    """Points (N, 2) of each term, with a gap before each session, and where the sessions start."""
    points: dict[str, list[tuple[float, float]]] = {}
    starts: list[tuple[float, str]] = []
    start = 0.0
    for session, curves in sorted((run.get("curves") or {}).items(), key=lambda item: int(item[0])):
        length = max(map(len, curves.values()), default=0)
        if length:
            starts.append((start, f"g{session}"))
        for term, values in curves.items():
            known = np.array([math.nan if (value := number(each)) is None else value for each in values])
            points.setdefault(term, []).extend([(math.nan, math.nan), *_thin(start, known)])
        start += length
    lines = {term: np.array(each) for term, each in points.items()}
    return {term: line for term, line in lines.items() if np.isfinite(line).any()}, starts


def _thin(start: float, values: NDArray[np.float64]) -> list[tuple[float, float]]:
    (steps,) = np.nonzero(np.isfinite(values))
    intervals = np.array_split(steps, min(_POINTS_IN_SESSION, len(steps))) if len(steps) else []
    return [(float(start + each.mean()), float(values[each].mean())) for each in intervals]


def _draw_terms(axes: Axes, lines: Mapping[str, NDArray[np.float64]]) -> None:
    """Draw the terms on a logarithmic scale where none is negative; zeros are then gaps in the line."""
    logarithmic = all(np.nanmin(line[:, 1]) >= 0 < np.nanmax(line[:, 1]) for line in lines.values())
    marks = []
    for (term, line), (colour, _) in zip(lines.items(), _looks(list(lines)), strict=True):
        x, y = line[:, 0], np.where(line[:, 1] > 0, line[:, 1], math.nan) if logarithmic else line[:, 1]
        axes.plot(x, y, color=colour, linewidth=1.6)
        last = np.flatnonzero(np.isfinite(y))[-1]
        marks.append(Mark(float(x[last]), float(y[last]), term, colour))
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(LogFormatter())
    label_ends(axes, marks)


def _canvas(width: float = 3.9, height: float = 3.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def _looks(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Colour and marker of every method, by position, so that it looks the same in every plot of one report."""
    others = [label for label in labels if label.partition(" ")[0] not in KEEPS_IMAGES]
    looks = {label: (_COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)]) for i, label in enumerate(others)}
    return [looks.get(label, ("#000000", "h")) for label in labels]


@rc_context(_STYLE)
def svg(figure: Figure) -> str:
    """A figure as SVG text, the same for the same figures."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=0.06, metadata=_NO_METADATA)
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace("font-family: ", "font-family: system-ui, ")
