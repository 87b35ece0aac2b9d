from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

import shops
from scrubjay.service.keys import KeyFile
from service.running import answers, served

ROOT = Path(__file__).parents[2]
KNOWN = {
    *("FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"),
    *("ENTRYPOINT", "CMD"),
}
Step = tuple[str, str]


def stages() -> list[list[Step]]:
    """The instructions of each stage, continued lines joined."""
    text = (ROOT / "deploy" / "Containerfile").read_text()
    lines = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    found: list[list[Step]] = []
    for line in filter(None, lines):
        name, _, value = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append((name, value.strip()))
    return found


def of(name: str, stage: list[Step]) -> list[str]:
    return [value for step, value in stage if step == name]


def test_every_instruction_is_one_that_there_is() -> None:
    build, final = stages()
    assert {name for name, _ in build + final} <= KNOWN
    assert of("FROM", build)[0].endswith(" AS build")
    assert not of("RUN", final), "what runs was made in the first stage"


def test_what_is_copied_is_there_and_in_the_context() -> None:
    ignored = (ROOT / ".containerignore").read_text().splitlines()
    for stage in stages():
        for value in of("COPY", stage):
            *sources, _ = value.split()
            if sources[0] == "--from=build":
                assert sources[1] == "/opt/scrubjay"
                continue
            for source in sources:
                assert (ROOT / source).exists()
                assert f"!{source}" in ignored


def test_nothing_needs_a_privilege() -> None:
    _, final = stages()
    user, group = of("USER", final)[0].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert of("STOPSIGNAL", final) == ["SIGTERM"]


def test_the_extras_that_are_installed_are_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (installed,) = re.findall(r'"\.\[([\w,]+)\]"', " ".join(of("RUN", stages()[0])))
    assert set(installed.split(",")) <= set(extras)


def test_the_container_s_command_serves_and_is_healthy(tmp_path: Path) -> None:
    _, final = stages()
    assert json.loads(of("ENTRYPOINT", final)[0]) == ["scrubjay"]
    command, folder, *arguments = json.loads(of("CMD", final)[0])
    (copied,) = [value.split() for value in of("COPY", final) if not value.startswith("--from")]
    placed = [str(ROOT / copied[0]) if each == copied[1] else each for each in arguments]
    placed[placed.index("0.0.0.0")] = "127.0.0.1"  # no test listens to other machines
    assert (command, folder) == ("serve", of("VOLUME", final)[0])
    shop = shops.copied(tmp_path)
    KeyFile(shop.folder).make("me", "admin")
    with served(shop.folder, *placed) as running:
        assert answers(running)
        health = of("HEALTHCHECK", final)[0]
        program, *code = json.loads(health[health.index("[") :])
        assert program == "python"
        port = running.url.rpartition(":")[2]
        check = [part.replace(":8000/", f":{port}/") for part in code]
        assert subprocess.run([sys.executable, *check], check=False).returncode == 0
        running.end()
        assert subprocess.run([sys.executable, *check], check=False, stderr=subprocess.DEVNULL).returncode != 0


@pytest.mark.slow
def test_the_commands_of_the_build_work_in_an_empty_environment(tmp_path: Path) -> None:
    """Runs them as they stand but for where they write, without dependencies, which take gigabytes."""
    build, _ = stages()
    source = tmp_path / "source"
    source.mkdir()
    for value in of("COPY", build):
        *sources, _ = value.split()
        for each in sources:
            subprocess.run(["cp", "-r", str(ROOT / each), str(source)], check=True)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    for command in of("RUN", build):
        placed = command.replace("/opt/scrubjay", shlex.quote(str(tmp_path / "opt")))
        placed += " --no-deps" if "pip install" in placed else ""
        done = subprocess.run(
            ["sh", "-c", placed], cwd=source, env=environment, capture_output=True, text=True, check=False
        )
        if "No matching distribution" in done.stderr or "NewConnectionError" in done.stderr:
            pytest.skip("the build needs hatchling, and no package index can be reached")
        assert done.returncode == 0, done.stderr
    packages = sysconfig.get_path("purelib")
    script = tmp_path / "opt" / "bin" / "scrubjay"
    done = subprocess.run(
        [script, "--version"], env={"PYTHONPATH": packages}, capture_output=True, text=True, check=False
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout), done.stderr
