"""The words of a leaderboard: cells and captions, the tables as Markdown, and the first table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scrubjay.report.figures import COLUMNS, TARGETS, shown
from scrubjay.report.leaderboard import TESTED, Board, BoardRow
from scrubjay.report.paired import Paired
from scrubjay.report.table import NOT_MEASURED, percent

if TYPE_CHECKING:
    from rich.table import Table

_KEYS = tuple(COLUMNS)
_ACROSS, _DETAILS = _KEYS.index("bridged.recall@1"), _KEYS.index("own.map_at_r")
TABLES = {
    "Leaderboard": _KEYS[:_ACROSS],
    "Across generations": _KEYS[_ACROSS:_DETAILS],
    "Other figures": _KEYS[_DETAILS:],
}
"""The columns by the title of their table."""


def columns(leaderboard: Board, title: str) -> list[str]:
    """The columns of a table in which anything was measured."""
    return [key for key in TABLES[title] if any(row.known(key) for row in leaderboard.rows)]


def heading(key: str) -> str:
    """The head of a column: its title, and its unit where that is not per cent."""
    column = COLUMNS[key]
    return column.title if column.unit == "%" else f"{column.title}, {column.unit}"


def name(row: BoardRow) -> str:
    """The label of a row; a row that keeps all images says so, and whether it is the upper reference."""
    if row.is_upper_reference:
        return f"{row.label} (all images, upper reference)"
    return f"{row.label} (all images)" if row.keeps_images else row.label


def place(row: BoardRow) -> str:
    """The rank of a row as text, or a dash."""
    return NOT_MEASURED if row.rank is None else str(row.rank)


def figure(row: BoardRow, key: str) -> tuple[str, str]:
    """A cell: the mean, and the half-width of its interval such as `±1.3`, or an empty string."""
    cell = row.cell(key)
    return shown(key, cell.mean), "" if cell.half is None else f"±{shown(key, cell.half)}"


def verdict(test: Paired) -> tuple[str, str]:
    """A test as text: the difference in percentage points, and its p value."""
    if test.difference is None:
        return NOT_MEASURED, ""
    sign = "+" if test.difference > 0 else ""
    return f"{sign}{percent(test.difference)}", p_value(test)


def p_value(test: Paired) -> str:
    """The corrected p value as text, or "one seed"."""
    if test.holm is None:
        return "one seed"
    return "p < 0.001" if test.holm < 0.001 else f"p = {test.holm:.3f}"


def captions(leaderboard: Board) -> dict[str, str]:
    """What every table means, by its title, for a reader who has not met the figures."""
    return dict(zip(TABLES, (caption(leaderboard), _ACROSS_GENERATIONS, _OTHER_FIGURES), strict=True))


def caption(leaderboard: Board) -> str:
    """What the first table means."""
    targets = (
        f"old kept {100 * TARGETS['old_kept']:.0f}, seen of joint {100 * TARGETS['seen_of_joint']:.0f}, old gallery"
        f" kept {100 * TARGETS['old_gallery_kept']:.0f}"
    )
    upper = leaderboard.upper_reference
    reference = "the upper reference, of which there is no run" if upper is None else f"the upper reference, {upper},"
    return (
        f"Per cent. The corner is the point at which a method reaches all three targets: {targets}; the distance to it"
        " is the root of the summed squares of what is missing to each, and lower is better. Old kept: mAP@R on the"
        " classes of earlier sessions at the end, relative to when each was learned. Seen of joint: mAP@R over all"
        f" classes, relative to {reference} with the same seed: the best row that trains on all images. Old gallery"
        " kept: mAP@R of the last generation's queries on g0's stored gallery, relative to g0's own queries on it (what"
        " a user keeps), and to the same queries on the gallery re-embedded by the last generation (what re-indexing"
        " would give, which falls with forgetting); the smaller of the two counts for the distance."
        f" {_seeds(leaderboard)} Bold: best without old images; rows that keep all images do not compete. The backbone"
        " without training never changes, so it keeps all it has by definition."
    )


def _seeds(leaderboard: Board) -> str:
    counts = {len(row.values) for row in leaderboard.rows}
    if max(counts, default=1) == 1:
        return "One seed."
    return f"Mean ± 95 % t-interval over {' or '.join(map(str, sorted(counts)))} seeds."


_ACROSS_GENERATIONS = (
    "Per cent, mAP@R unless a column says otherwise. C[t][k]: queries embedded by generation t, gallery by k. Over"
    " bridges: the queries are carried into the space of the gallery by maps that were fitted to the new sessions' own"
    " training images. AC: share of pairs k < t with C[t][k] > C[k][k], the criterion of backward-compatible training."
    " AM: mean of C[t][k] over all pairs k ≤ t. BC: mean over k < T of C[T][k] − C[k][k]. Negative flips: queries whose"
    " first hit was correct and no longer is, as a share of all queries (lower is better): from one generation to the"
    " next, both on their own embeddings of the same gallery; and from g0 on its own gallery to the last generation on"
    " that gallery, without and with bridges."
)

_OTHER_FIGURES = (
    "Retained: mean over earlier sessions of their classes' mAP@R at the end, relative to when each was learned."
    " Normalised gap: 0 is fine-tuning, 100 is the upper reference, in seen mAP@R. Forgetting: in mAP@R, lower is"
    " better. Learning one increment: mean wall-clock seconds, which parallel runs lengthen; time of joint's: as a"
    " share of the upper reference's with the same seed. Peak memory: largest resident memory of the process while it"
    " learned increments; where the system cannot reset the peak, since the process started."
)


def tests_caption(leaderboard: Board) -> str:
    """What was tested, and how."""
    by_corner = leaderboard.chosen_by == "corner"
    chosen = "distance to the corner" if by_corner else "seen mAP@R, as no baseline's corner is known"
    return (
        f"Differences from {leaderboard.baseline}, the best baseline by {chosen}, in percentage points, and p of"
        " Student's two-sided paired t-test over common seeds, with Holm's correction for the number of rows. A"
        " negative difference in the distance to the corner means nearer."
    )


def tested(leaderboard: Board) -> list[BoardRow]:
    """The rows that were compared with the best baseline."""
    return [row for row in leaderboard.rows if row.tests is not None]


def markdown(leaderboard: Board) -> str:
    """The leaderboard as GitHub-flavoured Markdown."""
    parts = [f"# {leaderboard.title}"]
    for title, words in captions(leaderboard).items():
        if keys := columns(leaderboard, title):
            body = [[place(row), name(row), *(_marked(row, key) for key in keys)] for row in leaderboard.rows]
            parts += [f"## {title}", _table(["", "method", *map(heading, keys)], body), words]
    if rows := tested(leaderboard):
        body = [[row.label, *(" ".join(verdict(test)) for test in (row.tests or {}).values())] for row in rows]
        table = _table(["method", *map(heading, TESTED)], body)
        parts += ["## Against the best baseline", table, tests_caption(leaderboard)]
    if leaderboard.failed:
        failed = [[each.label, str(each.seed), each.reason] for each in leaderboard.failed]
        parts += ["## Failed", _table(["method", "seed", "reason"], failed)]
    return "\n\n".join(parts) + "\n"


def _marked(row: BoardRow, key: str) -> str:
    text = " ".join(filter(None, figure(row, key)))
    return f"**{text}**" if key in row.best else text


def _table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", r"\|") for cell in line] for line in body)]
    return "\n".join(f"| {' | '.join(line)} |".replace("\n", " ") for line in lines)


def summary(leaderboard: Board) -> Table:
    """The first table without recall@1, for a terminal of 100 columns or more."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(leaderboard.title, style="bold"),
        caption=Text(caption(leaderboard)),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    keys = [key for key in columns(leaderboard, "Leaderboard") if not key.endswith("recall@1")]
    table.add_column(Text(""), justify="right")
    table.add_column(Text("method"), overflow="fold")
    for key in keys:
        table.add_column(Text(heading(key)), justify="right")
    for row in leaderboard.rows:
        cells = (Text("\n".join(filter(None, figure(row, key))), "bold" if key in row.best else "") for key in keys)
        table.add_row(place(row), Text(name(row)), *cells, style="italic dim" if row.keeps_images else "")
    return table
