"""A report of runs as one self-contained HTML file: table, plots, queries with their hits, run details."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from scrubjay.data.images import decode
from scrubjay.errors import ImageError, StorageError
from scrubjay.report import details, plots
from scrubjay.report.runs import Result, by_method
from scrubjay.report.table import (
    COLUMNS,
    KEYS,
    METRICS,
    Row,
    caption,
    display,
    heading,
    percent,
    rows,
    with_interval,
)

_THUMBNAIL = 112  # pixels
_SHOWN_BROKEN = 50


Shown = tuple[Path, str, float, bool]
"""A hit: its image, the name of its class, its cosine similarity, and whether the class is the query's."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """A query with the hits of several searches.

    Attributes:
        query: the image searched with.
        label: name of its class.
        columns: for each search a title such as "g0, before" or "mmd g3", and its hits, best first.
    """

    query: Path
    label: str
    columns: tuple[tuple[str, tuple[Shown, ...]], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot on the page.

    Attributes:
        source: the plot as a data: URL.
        alt: description of what it shows.
        title: the heading above it.
    """

    source: str
    alt: str
    title: str


def write_report(
    path: Path, results: Sequence[Result], retrievals: Sequence[Retrieval] = (), title: str = "scrubjay report"
) -> None:
    """Write the report; an existing file is replaced only when the new one is complete.

    Args:
        path: the HTML file; its folder is created.
        results: contents of `result.json` files, of runs on one stream.
        retrievals: queries to show; images that cannot be read become empty tiles with their name.
        title: title of the page.

    Raises:
        ConfigError: there are no results, or one run appears twice.
        StorageError: the file cannot be written.
    """
    write_page(path, render(results, retrievals, title))


def environment() -> Environment:
    """The templates of this folder; values in them are escaped, and an undefined one is an error."""
    return Environment(
        loader=PackageLoader("scrubjay", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def render(results: Sequence[Result], retrievals: Sequence[Retrieval] = (), title: str = "scrubjay report") -> str:
    """The report as the text of an HTML page; arguments and errors as in `write_report`."""
    templates = environment()
    templates.filters |= {"percent": percent, "with_interval": with_interval, "display": display}
    templates.filters |= {"thumbnail": thumbnail}
    table = rows(results)
    spent = details.seconds(results)
    broken = list({(str(path), str(reason)) for run in results for path, reason in run["data"].get("broken") or ()})
    return templates.get_template("page.html.j2").render(
        title=title,
        heading=heading(results),
        facts=details.facts(results),
        columns=COLUMNS,
        metrics=METRICS,
        keys=KEYS,
        table=table,
        caption=caption(results, table),
        stream=details.stream(results),
        stream_names=details.STREAM,
        plots=_plots(results, table),
        maps=_maps(results),
        curves=_curves(results),
        retrievals=retrievals,
        settings=details.compare(results),
        sessions=results[0]["sessions"],
        sessions_of=_one_of_many_orders(results),
        seconds=spent,
        phases=list(dict.fromkeys(phase for one in spent for phase in one.totals)),
        broken=sorted(broken)[:_SHOWN_BROKEN],
        broken_count=len(broken),
    )


def _plots(results: Sequence[Result], table: Sequence[Row]) -> list[Plot]:
    lines = []
    for group, metric in (("seen", "map_at_r"), ("seen", "recall@1"), ("old", "map_at_r")):
        ends = "; ".join(f"{row.label} {percent(row.cells[group, metric].mean)}" for row in table)
        alt = f"Lines over generations: {METRICS[metric]} of {group} classes in per cent. At the end: {ends}."
        lines.append(
            drawn(plots.over_sessions(results, group, metric), alt, f"{group.title()} classes, {METRICS[metric]}")
        )
    points = "; ".join(
        f"{row.label} {percent(row.cells['seen', 'map_at_r'].mean)} and {percent(row.cells['cross', 'map_at_r'].mean)}"
        for row in table
    )
    alt = f"Points, mAP@R of seen classes and of new queries on the old gallery in per cent: {points}."
    return [plot for plot in (drawn(plots.trade_off(table), alt, "Learning against compatibility"), *lines) if plot]


def _maps(results: Sequence[Result]) -> list[tuple[str, list[Plot]]]:
    kinds = {
        "accuracy": "mAP@R on the classes of each session, after each generation, %",
        "compatibility": "mAP@R of queries by a generation on the gallery by an earlier one, %",
        "bridged": "The same with queries carried over bridges into the space of the gallery, %",
    }
    return [
        (title, [plot for label, figure in maps.items() if (plot := drawn(figure, f"{label}: {title}.", label))])
        for kind, title in kinds.items()
        if (maps := plots.heat_maps(results, kind, "map_at_r"))
    ]


def _curves(results: Sequence[Result]) -> list[Plot]:
    curves = []
    for label, runs in by_method(results).items():
        title = label if len(runs) == 1 else f"{label}, seed {runs[0]['seed']}"
        curves.append(drawn(plots.loss_curves(runs[0]), f"{title}: terms of the loss over training steps.", title))
    return [plot for plot in curves if plot]


def _one_of_many_orders(results: Sequence[Result]) -> int | None:
    """The seed whose sessions are listed, where seeds have different orders of classes; else None."""
    orders = {tuple(result["data"]["classes"]) for result in results}
    return int(results[0]["seed"]) if len(orders) > 1 else None


def drawn(figure: Figure | None, alt: str, title: str) -> Plot | None:
    """A plot of the page from a figure; None where there is none."""
    if figure is None:
        return None
    return Plot(f"data:image/svg+xml;base64,{base64.b64encode(plots.svg(figure).encode()).decode()}", alt, title)


def thumbnail(path: Path) -> str | None:
    """A small JPEG of an image as a data: URL, upright and RGB; None when the file is missing or cannot be read."""
    try:
        image = decode(path, short_side=_THUMBNAIL)
    except ImageError:
        return None
    image.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def write_page(path: Path, text: str) -> None:
    """Write a text file; an existing file is replaced only when the new one is complete.

    Raises:
        StorageError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(text, encoding="utf-8", errors="replace")  # file names need not be valid Unicode
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path}: the report cannot be written: {error.strerror}; free some space or give another path."
        ) from None
