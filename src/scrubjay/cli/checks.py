"""The command that checks images before they are learned."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scrubjay.cli.app import app
from scrubjay.cli.terminal import say, working

if TYPE_CHECKING:
    from scrubjay.checks.folder_check import CheckFinding, FolderCheck

_TITLES = {
    "unreadable": "cannot be read",
    "duplicate": "the same file",
    "near_duplicate": "nearly the same",
    "known": "known already",
    "tiny_class": "few images",
    "suspected_label": "label may be wrong",
}
_SHOWN = 20  # findings of a kind that are listed in the terminal
_NAMED = 3  # images of a finding that are named in the terminal


@app.command()
def check(
    photos: Annotated[
        Path, typer.Argument(help="Folder with one sub-folder for each class, or a CSV or Parquet table.")
    ],
    catalogue: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Catalogue that is to learn them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the findings with their images to this HTML file.")
    ] = None,
) -> None:
    """Check images before they are learned: broken, repeated, known, too few, or labelled wrongly."""
    from scrubjay.checks.folder_check import check_photos
    from scrubjay.workspace.workspace import Workspace

    with working():
        result = check_photos(photos, None if catalogue is None else Workspace(catalogue))
    if html is not None:
        from scrubjay.report.check_page import write_check_page

        write_check_page(html, result, photos, _TITLES)
    if as_json:
        print(json.dumps(asdict(result), ensure_ascii=True, indent=1))
        return
    _show(result)
    if html is not None:
        say(str(html))


def _show(result: FolderCheck) -> None:
    known = f", {len(result.known_classes)} of them known" if result.known_classes else ""
    say(f"{result.images} images of {len(result.classes)} classes{known}.")
    for kind, title in _TITLES.items():
        findings = [finding for finding in result.findings if finding.kind == kind]
        if findings:
            say(f"{title}: {len(findings)}")
        for finding in findings[:_SHOWN]:
            say(f"  {_images(finding)}: {finding.message}")
        if len(findings) > _SHOWN:
            say(f"  and {len(findings) - _SHOWN} more; see them with --html or --json")
    if not result.findings:
        say("nothing was found that stands in the way of learning them.")


def _images(finding: CheckFinding) -> str:
    more = f" and {len(finding.images) - _NAMED} more" if len(finding.images) > _NAMED else ""
    return ", ".join(finding.images[:_NAMED]) + more
