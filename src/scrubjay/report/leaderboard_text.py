"""A leaderboard in words: what stands in its cells, as Markdown, and the nearest of it for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scrubjay.report.figures import COLUMNS, TARGETS, shown
from scrubjay.report.leaderboard import TESTED, Board, Standing
from scrubjay.report.paired import Paired
from scrubjay.report.table import NOT_MEASURED, percent

if TYPE_CHECKING:
    from rich.table import Table

TABLES = {
    "Leaderboard": tuple(COLUMNS)[:8],
    "What else was measured": tuple(COLUMNS)[8:],
}
"""The columns by the title of their table."""


def columns(made: Board, title: str) -> list[str]:
    """The columns of a table in which anything was measured."""
    return [key for key in TABLES[title] if any(row.known(key) for row in made.rows)]


def heading(key: str) -> str:
    """The head of a column: its title, and its unit where that is not per cent."""
    column = COLUMNS[key]
    return column.title if column.unit == "%" else f"{column.title}, {column.unit}"


def name(row: Standing) -> str:
    """The label of a row, saying so where it keeps all images."""
    return f"{row.label} (all images)" if row.keeps_images else row.label


def place(row: Standing) -> str:
    """Its rank, or a dash."""
    return NOT_MEASURED if row.rank is None else str(row.rank)


def figure(row: Standing, key: str) -> tuple[str, str]:
    """A cell: the mean, and `±1.3` or nothing."""
    cell = row.cell(key)
    return shown(key, cell.mean), "" if cell.half is None else f"±{shown(key, cell.half)}"


def verdict(test: Paired) -> tuple[str, str]:
    """A test: the difference in points, and how sure it is."""
    if test.difference is None:
        return NOT_MEASURED, ""
    sign = "+" if test.difference > 0 else ""
    return f"{sign}{percent(test.difference)}", sure(test)


def sure(test: Paired) -> str:
    """The p value, or that there is one seed."""
    if test.holm is None:
        return "one seed"
    return "p < 0.001" if test.holm < 0.001 else f"p = {test.holm:.3f}"


def caption(made: Board) -> str:
    """What the first table means, for someone who has not met it."""
    targets = ", ".join(f"{COLUMNS[key].title} {100 * target:.0f}" for key, target in TARGETS.items())
    return (
        f"Per cent. Distance to the corner: root of the summed squares of what is missing to {targets}; lower is"
        " nearer. Old kept: mAP@R on earlier sessions' classes at the end, of what it was when each was learned."
        " Seen of joint: mAP@R over all classes, of joint's with the same seed. Old gallery kept: mAP@R of new queries"
        f" on g0's gallery, of what it is when that gallery is embedded anew. {_seeds(made)} Bold: best without old"
        " images; what keeps them does not compete. The backbone without training never moves: it keeps all it has, by"
        " definition."
    )


def _seeds(made: Board) -> str:
    counts = {len(row.values) for row in made.rows}
    if max(counts, default=1) == 1:
        return "One seed."
    return f"Mean ± 95 % t-interval over {' or '.join(map(str, sorted(counts)))} seeds."


DETAILS = (
    "Normalised gap: 0 is fine-tuning, 100 is joint, in seen mAP@R. Forgetting: in mAP@R, lower is better. Learning an"
    " increment: mean wall-clock seconds, which runs at the same time lengthen; time of joint's: their share of joint's"
    " with the same seed. Peak memory: of the process, while it learned increments."
)
"""What the second table means."""


def tests_caption(made: Board) -> str:
    """What was tested, and how."""
    chosen = "distance to the corner" if made.chosen_by == "corner" else "seen mAP@R, as no baseline's corner is known"
    return (
        f"Differences from {made.baseline}, the best baseline by {chosen}, in points, and p of Student's two-sided"
        " paired t-test over common seeds, by Holm corrected for the number of rows. A negative difference of the"
        " distance to the corner is nearer."
    )


def tested(made: Board) -> list[Standing]:
    """The rows that were compared with the best baseline."""
    return [row for row in made.rows if row.tests is not None]


def markdown(made: Board) -> str:
    """The leaderboard as GitHub-flavoured Markdown."""
    parts = [f"# {made.title}"]
    for title, words in zip(TABLES, (caption(made), DETAILS), strict=True):
        if keys := columns(made, title):
            body = [[place(row), name(row), *(_marked(row, key) for key in keys)] for row in made.rows]
            parts += [f"## {title}", _table(["", "method", *map(heading, keys)], body), words]
    if rows := tested(made):
        body = [[row.label, *(" ".join(verdict(test)) for test in (row.tests or {}).values())] for row in rows]
        parts += ["## Against the best baseline", _table(["method", *map(heading, TESTED)], body), tests_caption(made)]
    if made.failed:
        lost = [[each.label, str(each.seed), each.reason] for each in made.failed]
        parts += ["## Failed", _table(["method", "seed", "why"], lost)]
    return "\n\n".join(parts) + "\n"


def _marked(row: Standing, key: str) -> str:
    text = " ".join(filter(None, figure(row, key)))
    return f"**{text}**" if key in row.best else text


def _table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", r"\|") for cell in line] for line in body)]
    return "\n".join(f"| {' | '.join(line)} |".replace("\n", " ") for line in lines)


def summary(made: Board) -> Table:
    """The first table without recall@1, for a terminal of 100 columns or more."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(made.title, style="bold"),
        caption=Text(caption(made)),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    keys = [key for key in columns(made, "Leaderboard") if not key.endswith("recall@1")]
    table.add_column(Text(""), justify="right")
    table.add_column(Text("method"))
    for key in keys:
        table.add_column(Text(heading(key)), justify="right")
    for row in made.rows:
        cells = (Text("\n".join(filter(None, figure(row, key))), "bold" if key in row.best else "") for key in keys)
        table.add_row(place(row), Text(name(row)), *cells, style="italic dim" if row.keeps_images else "")
    return table
