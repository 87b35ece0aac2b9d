from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = "import sys; sys.argv[0] = 'scrubjay'; from scrubjay.cli import main; main()"


def completing(**variables: str) -> str:
    """What the shell's script is told when it asks."""
    environment = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("shell", "asked"),
    [
        ("bash", {"COMP_WORDS": "scrubjay pu", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "scrubjay pu"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "scrubjay pu", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_commands_are_completed(shell: str, asked: dict[str, str], tmp_path: Path) -> None:
    script = completing(_SCRUBJAY_COMPLETE=f"source_{shell}")
    assert f"_SCRUBJAY_COMPLETE=complete_{shell}" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)
    offered = completing(_SCRUBJAY_COMPLETE=f"complete_{shell}", **asked)
    assert "push" in offered
    assert "pull" in offered
    assert "search" not in offered
