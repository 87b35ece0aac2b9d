from __future__ import annotations

from pathlib import Path

import typer

from scrubjay.cli import app
from scrubjay.cli.man_page import man_page

PAGE = Path(__file__).parents[2] / "docs" / "man" / "scrubjay.1"


def test_the_page_in_the_repository_is_that_of_the_commands() -> None:
    assert PAGE.read_text(encoding="utf-8") == man_page(), "python -m scrubjay.cli.man_page > docs/man/scrubjay.1"


def test_every_command_has_a_section_and_no_text_is_a_macro() -> None:
    lines = man_page().splitlines()
    sections = {line.split()[2].replace("\\", "") for line in lines if line.startswith(".SS")}
    assert sections == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    macros = {line.split()[0] for line in lines if line.startswith((".", "'"))}
    assert macros == {".TH", ".SH", ".SS", ".TP", ".B"}
