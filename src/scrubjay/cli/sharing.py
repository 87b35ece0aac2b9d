"""Commands that share generations: push one to the Hugging Face Hub, pull one from there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrubjay.cli.app import Folder, app
from scrubjay.cli.terminal import say, working

Repository = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hugging Face Hub.")]


@app.command()
def push(
    folder: Folder,
    generation: Annotated[str, typer.Argument(help="Name of the generation, such as g1.")],
    repository: Repository,
    use: Annotated[str | None, typer.Option(metavar="TEXT", help="Intended use, for the model card.")] = None,
    weights_only: Annotated[
        bool, typer.Option("--weights-only", help="Leave out what the method needs to learn further classes.")
    ] = False,
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public; default: private.")] = False,
) -> None:
    """Push a generation with its model card to the Hugging Face Hub. No image and no path is sent.

    Log in with `hf auth login`, or set HF_TOKEN.
    """
    from scrubjay.sharing.push import push as pushed
    from scrubjay.workspace.workspace import Workspace

    with working():
        result = pushed(Workspace(folder), generation, repository, use, weights_only, public)
    for name, size in result.files.items():
        say(f"{name}: {size / 2**20:.1f} MiB")
    say(f"{result.url}\nNext, anywhere: scrubjay pull {repository} FOLDER")


@app.command()
def pull(
    repository: Repository,
    folder: Annotated[Path, typer.Argument(help="A new folder, or a catalogue that has learned nothing.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit. Default: the main branch.")] = None,
) -> None:
    """Pull a generation from the Hugging Face Hub into a new catalogue, which answers with it at once."""
    from scrubjay.report.lineage_tree import described
    from scrubjay.sharing.pull import pull as pulled

    with working():
        generation = pulled(repository, folder, revision)
    say(described(generation))
    say(f"next: scrubjay add {folder} PHOTOS")
