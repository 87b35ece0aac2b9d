"""The outcome of tuning: a page of Markdown, the table for a recipe, and the lines for a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from scrubjay.report.table import NOT_MEASURED, percent

Report = Mapping[str, Any]
"""The contents of `tune.json`, or a part of it."""

_OLD_DATA = {
    "candidate": "label",
    "distance to the corner": "corner",
    "old kept": "old_kept",
    "seen of best": "seen_of_best",
    "old gallery kept, of the teacher's own": "old_gallery_absolute",
    "old gallery kept, of re-indexed": "old_gallery_kept",
    "score": "score",
}
"""Heading and key of every column of the table by old data."""


def snippet(report: Report) -> str:
    """The table of chosen options, to be copied into a recipe.

    >>> print(snippet({"method": "mmd", "chosen": {"alpha": 3.0, "kernels": "one"}}), end="")
    [methods.mmd]
    alpha = 3.0
    kernels = "one"
    """
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in report["chosen"].items()]
    return "\n".join([f"[methods.{report['method']}]", *lines]) + "\n"


def lines(report: Report) -> list[str]:
    """The choice, its cost, and how it compares by old data, where that was asked for."""
    cost, best = report["cost"], report["rungs"][-1]["candidates"][0]
    text = [
        f"{report['method']}, session {report['session']}: {best['label']}, score {best['score']:.3f}.",
        f"Cost, without old data: {cost['trainings']:.1f} full trainings, {cost['seconds']:.0f} s. Training every "
        f"candidate in full, to compare them by old data: {cost['trainings_of_all']} trainings, about "
        f"{cost['seconds_of_all']:.0f} s.",
    ]
    if report["peek"] is not None:
        text.append(peeked(report["peek"]))
    return text


def peeked(peek: Report) -> str:
    """How the choice compares with the best candidate by old data."""
    chosen, best, count = peek["chosen"], peek["oracle"], len(peek["candidates"])
    correlation = NOT_MEASURED if peek["spearman"] is None else f"{peek['spearman']:.2f}"
    return (
        f"By old data the best candidate is {best['label']}, at distance {best['corner']:.3f} from the corner; the "
        f"choice is at {chosen['corner']:.3f}, rank {chosen['rank']} of {count}; Spearman's correlation of both "
        f"rankings is {correlation}. Training and evaluating all candidates took {peek['seconds']:.0f} s."
    )


def page(report: Report) -> str:
    """The whole report as Markdown."""
    parts = [f"# {report['name']}: weights of {report['method']} for session {report['session']}", *lines(report)]
    images = report["images"]
    parts.append(f"Trained on {images['learned']} training images, evaluated on {images['held_out']} held out.")
    parts.append(f"```toml\n{snippet(report)}```")
    for rung in reversed(report["rungs"]):
        plain = rung["plain"]
        parts.append(f"## After {rung['epochs']} epoch{'' if rung['epochs'] == 1 else 's'}")
        heads = ("candidate", "score", "held-out mAP@R", "on the teacher's gallery", "agreement", "seconds")
        parts.append(_table(heads, [_row(each) for each in (*rung["candidates"], {**plain, "label": "finetune"})]))
    if report["peek"] is not None:
        body = [_by_old_data(each) for each in report["peek"]["candidates"]]
        parts += ["## With old data", _table(list(_OLD_DATA), body)]
    return "\n\n".join(parts) + "\n"


def _row(candidate: Report) -> list[str]:
    value = f"{candidate['score']:.3f}" if "score" in candidate else NOT_MEASURED
    figures = (percent(candidate[key]) for key in ("plasticity", "cross", "agreement"))
    return [candidate["label"], value, *figures, f"{candidate['seconds']:.1f}"]


def _by_old_data(candidate: Report) -> list[str]:
    label, corner, *shares, value = (candidate[key] for key in _OLD_DATA.values())
    return [label, f"{corner:.3f}", *map(percent, shares), f"{value:.3f}"]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = ["---", *("---:" for _ in heads[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, marks, *rows))
