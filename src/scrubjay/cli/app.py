"""What all commands share: the application, and the arguments that several of them take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrubjay import __version__

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Image retrieval that keeps learning: new classes in, none forgotten, the index still valid.",
)

Folder = Annotated[Path, typer.Argument(help="Folder of the catalogue.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set an option; repeatable.")]


def version(show: bool) -> None:
    if show:
        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Say it.")] = False,
) -> None:
    """Image retrieval that keeps learning: new classes in, none forgotten, the index still valid."""
