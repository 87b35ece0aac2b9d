"""What tuning chose, in words: a page of Markdown, the table for a recipe, and the lines for a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from scrubjay.report.table import NOT_MEASURED, percent

Found = Mapping[str, Any]


def snippet(found: Found) -> str:
    """The table of options that goes into a recipe.

    >>> print(snippet({"method": "mmd", "chosen": {"alpha": 3.0, "kernels": "one"}}), end="")
    [methods.mmd]
    alpha = 3.0
    kernels = "one"
    """
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in found["chosen"].items()]
    return "\n".join([f"[methods.{found['method']}]", *lines]) + "\n"


def lines(found: Found) -> list[str]:
    """What was chosen, what it cost, and what peeking says of it."""
    cost, best = found["cost"], found["rungs"][-1]["candidates"][0]
    said = [
        f"{found['method']}, session {found['session']}: {best['label']}, score {best['score']:.3f}.",
        f"Without old data: {cost['trainings']:.1f} trainings, {cost['seconds']:.0f} s. To peek, with every candidate "
        f"trained in full: {cost['trainings_of_all']} trainings, about {cost['seconds_of_all']:.0f} s, and old data.",
    ]
    if found["peek"] is not None:
        said.append(peeked(found["peek"]))
    return said


def peeked(peek: Found) -> str:
    """How the choice does by the old data."""
    mine, best, count = peek["chosen"], peek["oracle"], len(peek["candidates"])
    order = NOT_MEASURED if peek["spearman"] is None else f"{peek['spearman']:.2f}"
    return (
        f"With old data: {best['label']}, {best['corner']:.3f} from the corner; the choice is {mine['corner']:.3f} "
        f"from it, place {mine['rank']} of {count}; the orders' correlation is {order}. "
        f"Peeking took {peek['seconds']:.0f} s."
    )


def page(found: Found) -> str:
    """All of it as Markdown."""
    parts = [f"# {found['name']}: weights of {found['method']} for session {found['session']}", *lines(found)]
    images = found["images"]
    parts.append(f"Learned from {images['learned']} training images, judged by {images['held_out']} held out.")
    parts.append(f"```toml\n{snippet(found)}```")
    for rung in reversed(found["rungs"]):
        plain = rung["plain"]
        parts.append(f"## After {rung['epochs']} epoch{'' if rung['epochs'] == 1 else 's'}")
        heads = ("candidate", "score", "held-out mAP@R", "on the teacher's gallery", "agreement", "seconds")
        parts.append(_table(heads, [_row(each) for each in (*rung["candidates"], {**plain, "label": "finetune"})]))
    if found["peek"] is not None:
        heads = ("candidate", "from the corner", "old kept", "seen of best", "old gallery kept", "score")
        parts += ["## With old data", _table(heads, [_judged(each) for each in found["peek"]["candidates"]])]
    return "\n\n".join(parts) + "\n"


def _row(each: Found) -> list[str]:
    value = f"{each['score']:.3f}" if "score" in each else NOT_MEASURED
    figures = (percent(each[key]) for key in ("plasticity", "cross", "agreement"))
    return [each["label"], value, *figures, f"{each['seconds']:.1f}"]


def _judged(each: Found) -> list[str]:
    figures = (percent(each[key]) for key in ("old_kept", "seen_of_best", "old_gallery_kept"))
    return [each["label"], f"{each['corner']:.3f}", *figures, f"{each['score']:.3f}"]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = ["---", *("---:" for _ in heads[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, marks, *rows))
