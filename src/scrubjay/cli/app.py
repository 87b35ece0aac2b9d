"""The application that all commands belong to, and the arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrubjay import __version__

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Image retrieval that keeps learning: it adds new classes, forgets none, and keeps the index valid.",
)

Folder = Annotated[Path, typer.Argument(help="Folder of the catalogue.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set an option. Repeatable.")]


def version(show: bool) -> None:
    """Print the version and exit, if the option is given."""
    if show:
        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Image retrieval that keeps learning: it adds new classes, forgets none, and keeps the index valid."""
