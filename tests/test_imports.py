from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "timm", "lancedb", "matplotlib", "fastapi", "starlette")
LOOK = f"""
import sys
{{action}}
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
COMMAND = """
import scrubjay.cli
from typer.testing import CliRunner
done = CliRunner().invoke(scrubjay.cli.app, {arguments!r}, catch_exceptions=False)
print(done.output)
assert done.exit_code == 0
"""


def look(action: str) -> tuple[str, str]:
    command = [sys.executable, "-c", LOOK.format(action=action)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr.strip()


@pytest.mark.parametrize(
    "module",
    [
        "scrubjay",
        "scrubjay.cli",
        "scrubjay.client",
        "scrubjay.types",
        "scrubjay.config",
        "scrubjay.plugins",
        "scrubjay.data.stream",
        "scrubjay.generations.serving",
    ]
    + [f"scrubjay.data.sources.{name}" for name in ("folder", "table", "grocery", "cub200", "stanford_dogs", "aviary")],
)
def test_importing_costs_nothing(module: str) -> None:
    assert look(f"import {module}") == ("", "[]")


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--help"], "Usage"), (["methods"], "finetune"), (["sources"], "folder")]
)
def test_asking_costs_nothing(arguments: list[str], said: str) -> None:
    printed, loaded = look(COMMAND.format(arguments=arguments))
    assert said in printed
    assert loaded == "[]"


def test_what_loads_torch_is_seen() -> None:
    assert "torch" in look("import scrubjay; scrubjay.Method")[1]
