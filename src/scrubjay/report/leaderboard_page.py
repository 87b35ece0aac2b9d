"""A leaderboard as files: a self-contained page, Markdown, and JSON."""

from __future__ import annotations

from pathlib import Path

from scrubjay.io.atomic import write_json
from scrubjay.report import leaderboard_text as text
from scrubjay.report import plots
from scrubjay.report.figures import shown
from scrubjay.report.html import Plot, drawn, environment, write_page
from scrubjay.report.leaderboard import TESTED, Board, Standing, to_json
from scrubjay.report.table import BACKBONE, Row


def write_board(out: Path, made: Board) -> None:
    """Write `leaderboard.html`, `.md` and `.json` into a folder.

    Raises:
        StorageError: one of them cannot be written.
    """
    write_page(out / "leaderboard.html", page(made))
    write_page(out / "leaderboard.md", text.markdown(made))
    write_json(out / "leaderboard.json", to_json(made))


def page(made: Board) -> str:
    """The text of the page."""
    templates = environment()
    templates.filters |= {each.__name__: each for each in (text.heading, text.name, text.place, text.figure)}
    templates.filters |= {"verdict": text.verdict}
    words = (text.caption(made), text.DETAILS)
    return templates.get_template("leaderboard.html.j2").render(
        board=made,
        tables=[(title, text.columns(made, title), note) for title, note in zip(text.TABLES, words, strict=True)],
        plot=_plot(made),
        corner=made.goal[1].mean is not None,
        crosses=len(made.rows) <= plots.FEW,
        tested=text.tested(made),
        tested_keys=TESTED,
        tests_caption=text.tests_caption(made),
    )


def _plot(made: Board) -> Plot | None:
    rows = [_row(row) for row in made.rows if row.label != BACKBONE]
    x, y = made.goal
    goal = None if x.mean is None or y.mean is None else (x.mean, y.mean)
    both = "; ".join(
        f"{row.label} {shown('seen.map_at_r', row.cell('seen.map_at_r').mean)} and"
        f" {shown('cross.map_at_r', row.cell('cross.map_at_r').mean)}"
        for row in made.rows
    )
    alt = f"Points, mAP@R of seen classes and of new queries on the old gallery in per cent: {both}."
    return drawn(plots.trade_off(rows, goal, wide=True), alt, "Learning against compatibility")


def _row(row: Standing) -> Row:
    """As the plots take it."""
    cells = {(group, "map_at_r"): row.cell(f"{group}.map_at_r") for group in ("seen", "cross", "own")}
    return Row(row.label, len(row.values), row.keeps_images, cells)
