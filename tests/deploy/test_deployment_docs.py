from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command

from scrubjay.cli import app
from scrubjay.service.options import PREFIX, ServiceOptions

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")


def test_files_and_pages_that_it_names_exist() -> None:
    for name in re.findall(r"(?:deploy|tests)/[\w./-]+\w", TEXT):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\]\((\w+\.md)\)", TEXT):
        assert (ROOT / "docs" / name).exists(), name


def test_options_that_it_names_exist() -> None:
    for name in re.findall(rf"{PREFIX}(\w+)=", TEXT):
        assert name.lower() in ServiceOptions.model_fields
    for name in re.findall(r"`(\w+_\w+)`", TEXT):
        assert name in ServiceOptions.model_fields, name


def test_commands_that_it_names_exist() -> None:
    known = get_command(app).commands  # type: ignore[attr-defined]
    for name in re.findall(r"scrubjay ([a-z]+) /?(?:shop|catalogue|var)", TEXT):
        assert name in known, name
