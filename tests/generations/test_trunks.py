"""Backbones are stored once for all generations that share their weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tiny
from scrubjay.errors import CheckpointError
from scrubjay.generations.generation import Generation
from scrubjay.generations.lineage import Lineage
from scrubjay.generations.trunks import PREFIX, Trunks
from scrubjay.methods import Method
from scrubjay.models.checkpoint import load_tensors, save_tensors

KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import tiny
from scrubjay.generations.lineage import Lineage
folder = Path(sys.argv[1])

def kill():
    while len(list((folder / "trunks").glob("*.safetensors"))) < 3:
        time.sleep(0.0005)
    os.kill(os.getpid(), signal.SIGKILL)

learner = tiny.learner()
threading.Thread(target=kill, daemon=True).start()
while True:
    next(learner.network.embedder.backbone.parameters()).data += 1
    Lineage(folder).add(learner, tiny.record())
"""


@pytest.fixture
def learner() -> Method:
    return tiny.learner()


@pytest.fixture
def line(tmp_path: Path, learner: Method) -> Lineage:
    """g0 and g1 share a backbone; g2 has one of its own."""
    line = Lineage(tmp_path)
    line.add(learner, tiny.record())
    learner.network.embedder.projection.weight.data.mul_(2)
    line.add(learner, tiny.record())
    next(learner.network.embedder.backbone.parameters()).data.add_(1)
    line.add(learner, tiny.record())
    return line


def size(generation: Generation) -> int:
    return sum(file.stat().st_size for file in generation.folder.iterdir())


def test_equal_backbones_are_one_file(line: Lineage, learner: Method) -> None:
    g0, g1, g2 = line.generations()
    assert g0.info.trunk == g1.info.trunk != g2.info.trunk
    assert [path.stem for path in line.trunks.paths()] == sorted({str(g0.info.trunk), str(g2.info.trunk)})
    assert tiny.same(line.network(g2).state_dict(), learner.network.state_dict())
    first, second = line.network(g0).state_dict(), line.network(g1).state_dict()
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed == {"embedder.projection.weight"}
    assert size(g1) < line.trunks.path(str(g1.info.trunk)).stat().st_size / 4


def test_a_generation_that_holds_its_whole_network_is_read(line: Lineage, learner: Method) -> None:
    """As versions before format 3 wrote it."""
    expected = tiny.weights(learner.network)
    folder = line.folder / "g2"
    save_tensors(folder / "network.safetensors", expected, {"generation": "g2"})
    values = json.loads((folder / "generation.json").read_text())
    del values["trunk"]
    (folder / "generation.json").write_text(json.dumps({**values, "format": 2}))
    generation = Lineage(line.folder).get("g2")
    assert generation.info.trunk is None
    assert tiny.same(line.network(generation).state_dict(), expected)
    other = tiny.learner()
    line.restore(generation, other)
    assert tiny.same(tiny.weights(other.network), expected)
    assert len(line.unused_files()) == 1


def test_unused_backbones_are_listed(line: Lineage) -> None:
    own = line.trunks.path(str(line.get("g2").info.trunk))
    shared = line.trunks.path(str(line.get("g0").info.trunk))
    assert line.unused_files() == []
    assert line.unused_files(["g0"]) == []
    assert line.unused_files(["g2"]) == [own]
    assert line.unused_files(["g0", "g1"]) == [shared]


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_a_damaged_backbone_is_named_with_the_cure(line: Lineage, damage: str) -> None:
    generation = line.get("g2")
    path = line.trunks.path(str(generation.info.trunk))
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-5])
    for use in (line.network, lambda each: line.restore(each, tiny.learner())):
        with pytest.raises(CheckpointError, match=rf"trunks/{path.name}: damaged .*: restore it from a copy") as caught:
            use(generation)
        assert "\n" not in str(caught.value)
    assert line.network(line.get("g1")).head.classes == 0, "generations with another backbone are whole"


def test_storing_the_same_backbone_again_repairs_its_file(line: Lineage, learner: Method) -> None:
    path = line.trunks.path(str(line.get("g2").info.trunk))
    content = path.read_bytes()
    tensors, info = load_tensors(path, "")
    save_tensors(path, {**tensors, next(iter(tensors)): torch.zeros(3)}, info)
    with pytest.raises(CheckpointError, match="its content does not match its name"):
        line.trunks.check(path.stem)
    line.add(learner, tiny.record())
    assert path.read_bytes() == content


def test_the_name_depends_on_names_types_shapes_and_values(tmp_path: Path) -> None:
    trunks = Trunks(tmp_path)
    zeros = torch.zeros(4)
    variants = ({"a": zeros}, {"b": zeros}, {"a": zeros + 1}, {"a": zeros.view(2, 2)}, {"a": zeros.int()})
    assert len({trunks.put(tensors) for tensors in variants}) == len(variants)
    assert trunks.put({"a": torch.zeros(4)}) == trunks.put({"a": torch.zeros(2, 4)[0]})
    assert PREFIX == "embedder.backbone."


def test_a_kill_while_backbones_are_written_leaves_whole_generations(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    line = Lineage(tmp_path)
    assert len(line.generations()) >= 2
    for generation in line.generations():
        line.network(generation)
    assert len(line.unused_files()) <= 1, "at most the backbone of the generation that was being written"
