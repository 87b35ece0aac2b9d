from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic_core import PydanticSerializationError

import tiny
from scrubjay.errors import CatalogueError, CheckpointError, StorageError
from scrubjay.generations import generation as reading
from scrubjay.generations import lineage
from scrubjay.generations.generation import Generation, SessionRecord
from scrubjay.generations.lineage import Lineage
from scrubjay.generations.versions import versions
from scrubjay.methods import Method
from scrubjay.methods.finetune import Finetune
from scrubjay.models.embedding import Encoder, space_fingerprint
from scrubjay.training import learn
from scrubjay.types import Session

KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import tiny
from scrubjay.generations.lineage import Lineage
folder = Path(sys.argv[1])

def kill():
    while not list(folder.glob(".g1.*/network.safetensors")):
        time.sleep(0.0005)
    os.kill(os.getpid(), signal.SIGKILL)

learner = tiny.learner()
Lineage(folder).add(learner, tiny.record())
threading.Thread(target=kill, daemon=True).start()
while True:
    Lineage(folder).add(learner, tiny.record(curves={"ce": [0.0] * 10**6}))
"""


class Remembering(Finetune):
    """Keeps a statistic between sessions."""

    def __init__(self, network: object, options: object = None) -> None:
        super().__init__(network, options)  # type: ignore[arg-type]
        self.register_buffer("seen", torch.zeros(2))


@pytest.fixture
def first(tmp_path: Path) -> Session:
    return tiny.session(tmp_path / "images", 0, 0)


def described(learner: Method, classes: int = 2) -> SessionRecord:
    names = (f"class{label}" for label in range(classes))
    return tiny.record(names, space_fingerprint(learner.network.embedder, tiny.IMAGES))


@pytest.fixture
def line(tmp_path: Path, first: Session) -> Lineage:
    """Two generations of one learner."""
    line, learner = Lineage(tmp_path / "line"), tiny.learner("mmd")
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    line.add(learner, described(learner))
    line.add(learner, described(learner))
    return line


def test_a_generation_comes_back_to_the_bit(tmp_path: Path, first: Session) -> None:
    line, learner = Lineage(tmp_path / "line"), tiny.learner("mmd")
    assert line.newest is None
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    expected = Encoder(learner.network.embedder, tiny.IMAGES).embed(first.train)
    made = line.add(learner, described(learner))

    generation = Lineage(tmp_path / "line").get("g0")
    assert generation == made
    assert (generation.name, generation.number, generation.classes) == ("g0", 0, ("class0", "class1"))
    network = line.network(generation)
    assert not network.training
    assert network.options == learner.network.options
    assert tiny.same(network.state_dict(), learner.network.state_dict())
    found = Encoder(network.embedder, tiny.IMAGES).embed(first.train)
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    assert found.fingerprint == generation.fingerprint == expected.fingerprint


def test_a_method_goes_on_from_a_generation(tmp_path: Path, first: Session) -> None:
    line, learner = Lineage(tmp_path / "line"), tiny.learner(Remembering)
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    learner.get_buffer("seen").copy_(torch.tensor([3.0, 4.0]))
    generation = line.add(learner, described(learner))
    other = tiny.learner(Remembering)
    line.restore(generation, other)
    assert tiny.same(tiny.weights(other), tiny.weights(learner))


def test_generations_know_their_parents(line: Lineage) -> None:
    assert [each.name for each in line.generations()] == ["g0", "g1"]
    assert [each.info.parent for each in line.generations()] == [None, "g0"]
    assert line.newest is not None
    assert line.newest.name == "g1"
    assert line.newest.info.versions == versions()
    assert not list(line.folder.glob("*/method.safetensors")), "the teacher is not kept between sessions"


def test_ten_come_after_nine(tmp_path: Path) -> None:
    line, learner = Lineage(tmp_path), tiny.learner()
    for _ in range(11):
        line.add(learner, tiny.record())
    assert [each.number for each in line.generations()] == list(range(11))
    assert line.newest is not None
    assert line.newest.info.parent == "g9"


def test_half_written_and_foreign_folders_are_ignored(line: Lineage) -> None:
    half = line.folder / ".g2.123"
    half.mkdir()
    (half / "network.safetensors").write_bytes(b"half")
    (line.folder / "gallery").mkdir()
    (line.folder / "g7").write_text("a file")
    assert [each.name for each in line.generations()] == ["g0", "g1"]
    learner = tiny.learner()
    assert line.add(learner, described(learner)).name == "g2"


def test_a_kill_while_writing_leaves_the_last_whole_generation(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    line, learner = Lineage(tmp_path), tiny.learner()
    whole = line.generations()
    assert whole
    for generation in whole:
        assert line.network(generation).head.classes == 0
    assert line.add(learner, described(learner)).number == len(whole)


def test_an_unknown_name_lists_the_known(line: Lineage, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"there is no generation 'g7'; there are: g0, g1\."):
        line.get("g7")
    with pytest.raises(CatalogueError, match="none yet: learn one first"):
        Lineage(tmp_path / "nowhere").get("g0")


@pytest.mark.parametrize("content", ["", "{", '{"format": 1', "\x00\x00"])
def test_a_damaged_description_is_named(content: str, line: Lineage) -> None:
    (line.folder / "g1" / "generation.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"g1/generation\.json: damaged") as caught:
        line.generations()
    assert "\n" not in str(caught.value)


def test_a_missing_description_is_named(line: Lineage) -> None:
    (line.folder / "g0" / "generation.json").unlink()
    with pytest.raises(CheckpointError, match=r"g0/generation\.json: damaged or missing"):
        line.generations()


def test_a_newer_format_is_refused(line: Lineage) -> None:
    path = line.folder / "g0" / "generation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(CheckpointError, match="has format 99; this version of scrubjay reads 1 to 3: upgrade scrubjay"):
        line.generations()


def test_the_first_format_is_read(tmp_path: Path) -> None:
    """A catalogue wrote the number of images where a run wrote the image options."""
    now = tiny.info("g0", images=tiny.IMAGES, training={"epochs": 3}, image_count=7)
    old = now.model_dump(mode="json", exclude={"image_count", "training", "phase"})
    options = {"images": old["images"], "training": {"epochs": 3}, "store": None}
    (tmp_path / "g0").mkdir()
    path = tmp_path / "g0" / "generation.json"
    path.write_text(json.dumps({**old, "format": 1, "images": 7, "options": options}))
    assert Lineage(tmp_path).get("g0").info == now
    path.write_text(json.dumps({**old, "format": 1, "training": {"epochs": 3}}))
    assert Lineage(tmp_path).get("g0").info == now.model_copy(update={"image_count": None})


def test_each_description_is_parsed_once(line: Lineage, monkeypatch: pytest.MonkeyPatch) -> None:
    again, parsed = Lineage(line.folder), []
    monkeypatch.setattr(lineage, "read_generation", lambda folder: parsed.append(folder.name) or read(folder))
    read = reading.read_generation
    for _ in range(3):
        assert [each.name for each in again.generations()] == ["g0", "g1"]
        again.line("g1")
    assert parsed == ["g0", "g1"]
    shutil.copytree(line.folder / "g1", line.folder / "copy")
    shutil.rmtree(line.folder / "g1")
    (line.folder / "copy").rename(line.folder / "g1")
    again.get("g1")
    assert parsed == ["g0", "g1", "g1"], "another folder of the same name is read again"


def test_truncated_weights_are_refused(line: Lineage) -> None:
    weights = line.folder / "g1" / "network.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    for use in (line.network, lambda generation: line.restore(generation, tiny.learner())):
        with pytest.raises(CheckpointError, match=r"g1/network\.safetensors: damaged or incomplete"):
            use(line.get("g1"))
    assert line.network(line.get("g0")).head.classes == 2, "the other generation is whole"


def test_weights_of_another_network_are_refused(line: Lineage) -> None:
    generation = line.get("g0")
    wider = generation.info.network.model_copy(update={"dim": 16})
    with pytest.raises(CheckpointError, match="of another network") as caught:
        line.network(Generation(generation.folder, generation.info.model_copy(update={"network": wider})))
    assert "\n" not in str(caught.value)
    other = tiny.learner(network=tiny.NETWORK.model_copy(update={"dim": 16}))
    with pytest.raises(CheckpointError, match="of another network"):
        line.restore(generation, other)


def test_nothing_is_left_behind_where_nothing_can_be_written(line: Lineage) -> None:
    learner = tiny.learner()
    half = line.folder / f".g2.{os.getpid()}"
    half.write_text("a file where the folder goes")
    with pytest.raises(StorageError, match="could not be written"):
        line.add(learner, described(learner))
    assert [each.name for each in line.generations()] == ["g0", "g1"]


def test_a_description_that_is_no_json_leaves_nothing_behind(line: Lineage) -> None:
    learner = tiny.learner()
    odd = described(learner).model_copy(update={"phase": {"odd": object()}})
    with pytest.raises(PydanticSerializationError):
        line.add(learner, odd)
    assert sorted(each.name for each in line.folder.iterdir()) == ["g0", "g1", "trunks"]
