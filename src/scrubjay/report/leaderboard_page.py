"""A leaderboard as files: a self-contained HTML page, Markdown, and JSON."""

from __future__ import annotations

from pathlib import Path

from scrubjay.io.atomic import write_json
from scrubjay.report import leaderboard_text as text
from scrubjay.report import plots
from scrubjay.report.figures import shown
from scrubjay.report.html import Plot, drawn, environment, write_page
from scrubjay.report.leaderboard import TESTED, Board, BoardRow, to_json
from scrubjay.report.table import BACKBONE, Row


def write_board(out: Path, leaderboard: Board) -> None:
    """Write `leaderboard.html`, `.md` and `.json` into a folder.

    Raises:
        StorageError: one of them cannot be written.
    """
    write_page(out / "leaderboard.html", page(leaderboard))
    write_page(out / "leaderboard.md", text.markdown(leaderboard))
    write_json(out / "leaderboard.json", to_json(leaderboard))


def page(leaderboard: Board) -> str:
    """The leaderboard as the text of an HTML page."""
    templates = environment()
    templates.filters |= {each.__name__: each for each in (text.heading, text.name, text.place, text.figure)}
    templates.filters |= {"verdict": text.verdict}
    captions = text.captions(leaderboard)
    return templates.get_template("leaderboard.html.j2").render(
        board=leaderboard,
        tables=[(title, text.columns(leaderboard, title), words) for title, words in captions.items()],
        plot=_plot(leaderboard),
        corner=leaderboard.goal[1].mean is not None,
        with_intervals=len(leaderboard.rows) <= plots.FEW,
        tested=text.tested(leaderboard),
        tested_keys=TESTED,
        tests_caption=text.tests_caption(leaderboard),
    )


def _plot(leaderboard: Board) -> Plot | None:
    rows = [_row(row) for row in leaderboard.rows if row.label != BACKBONE]
    x, y = leaderboard.goal
    goal = None if x.mean is None or y.mean is None else (x.mean, y.mean)
    points = "; ".join(
        f"{row.label} {shown('seen.map_at_r', row.cell('seen.map_at_r').mean)} and"
        f" {shown('cross.map_at_r', row.cell('cross.map_at_r').mean)}"
        for row in leaderboard.rows
    )
    alt = f"Points, mAP@R of seen classes and of new queries on the old gallery in per cent: {points}."
    return drawn(plots.trade_off(rows, goal, wide=True), alt, "Learning against compatibility")


def _row(row: BoardRow) -> Row:
    """The row as the plots take it."""
    cells = {(group, "map_at_r"): row.cell(f"{group}.map_at_r") for group in ("seen", "cross", "own")}
    return Row(row.label, len(row.values), row.keeps_images, cells)
