"""The manual page of the console script, from the commands themselves: `python -m scrubjay.cli.man_page`."""

from __future__ import annotations

from typing import Any

import typer

from scrubjay.cli import app


def man_page() -> str:
    """The text of `scrubjay.1`, in the man macros of groff."""
    command: Any = typer.main.get_command(app)  # of click, which newer versions of Typer bring with them
    lines = ['.TH SCRUBJAY 1 "" "scrubjay" "User Commands"', ".SH NAME"]
    lines += [r"scrubjay \- image retrieval that keeps learning", ".SH SYNOPSIS", ".B scrubjay", "COMMAND [ARGUMENTS]"]
    lines += [".SH DESCRIPTION", _plain(command.help), ".SH COMMANDS"]
    for name, each in command.commands.items():
        context = each.make_context(name, [], resilient_parsing=True)
        usage = " ".join(each.collect_usage_pieces(context))
        lines += [f".SS scrubjay {_plain(name)} {_plain(usage)}", _plain(each.help)]
        for parameter in each.get_params(context):
            lines += _described(parameter, context)
    return "\n".join(line for line in lines if line) + "\n"


def _described(parameter: Any, context: Any) -> list[str]:
    """The entry of an option or argument; none where it has no help."""
    record = parameter.get_help_record(context)
    if record is None or "--help" in parameter.opts:
        return []
    return [".TP", rf"\fB{_plain(record[0])}\fR", _plain(record[1])]


def _plain(text: str | None) -> str:
    """Text in which groff finds no command and no escape, in one line."""
    line = " ".join((text or "").split()).replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{line}" if line.startswith((".", "'")) else line


if __name__ == "__main__":
    print(man_page(), end="")
