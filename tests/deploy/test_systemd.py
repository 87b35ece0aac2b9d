from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scrubjay.cli import app
from scrubjay.service.options import ServiceOptions

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "scrubjay.service"
EXPOSURE = 15
"""Largest exposure in tenths of what `systemd-analyze security` counts, of 100."""


def settings() -> dict[str, list[str]]:
    """The assignments of the unit."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a program that this machine has in the place of the installed one."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text, count = re.subn(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text())
    assert count == 1
    unit = tmp_path / UNIT.name
    unit.write_text(text)
    return unit


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, check=False)


def test_systemd_takes_the_unit_without_a_word(installed: Path) -> None:
    done = analyze("verify", "--man=no", str(installed))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_exposes_little(installed: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", str(installed))
    if "offline" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a unit that is not installed")
    assert done.returncode == 0, done.stdout


def test_the_command_of_the_unit_is_one_that_there_is(tmp_path: Path) -> None:
    (command,) = settings()["ExecStart"]
    program, *arguments = command.split()
    assert Path(program).name == "scrubjay"
    placed = [str(DEPLOY / "service.toml") if each == "/etc/scrubjay/service.toml" else each for each in arguments]
    done = CliRunner().invoke(app, placed)
    assert "no catalogue here" in str(done.exception), "everything but the catalogue is in place"


def test_the_service_is_given_the_time_that_it_takes_to_end() -> None:
    (stop,) = settings()["TimeoutStopSec"]
    assert int(stop) >= ServiceOptions().shutdown_seconds + 15


def test_the_example_of_a_configuration_is_read() -> None:
    options = ServiceOptions.read(DEPLOY / "service.toml", {})
    assert options.log == "json"
    changed = {
        name for name in ServiceOptions.model_fields if getattr(options, name) != getattr(ServiceOptions(), name)
    }
    assert changed == {"log"}, "but for the log the example shows the defaults"
