from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_runs import TRAINING, FailsInOne, KilledOnce, distance, learned, learner

import tiny
from scrubjay import plugins
from scrubjay.errors import ConfigError, DataError, StorageError
from scrubjay.methods.finetune import Finetune
from scrubjay.training import learn
from scrubjay.training.fit import Fit, Work
from scrubjay.training.together import follow
from scrubjay.types import Batch, Losses, Session
from scrubjay.workers import Workers
from scrubjay.workers.ranks import Group, leading

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS: dict[str, dict[str, Any]] = {
    "carried_slda": {"weight": 1e-4},  # at the learning rate of these tests the default weight diverges
    "slda": {"adapt": "first"},
}


def compare(root: Path, size: int, names: list[str]) -> dict[str, float]:
    """By method: how far the result of a group of processes is from that of one."""
    alone = {name: learned(root, name, **OPTIONS.get(name, {})) for name in names}
    images = tiny.batch(tiny.session(root, 1, 3, classes=3, each=5).train).images
    distances = {}
    with leading(size, follow) as group:  # further processes would take seconds to start for each method
        for name in names:
            method, curves = learned(root, name, **OPTIONS.get(name, {}))
            torch.testing.assert_close(curves, alone[name][1], rtol=1e-3, atol=1e-4)
            distances[name] = distance(method, alone[name][0], images)
        group.sent(None)
    return distances


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_every_method_learns_the_same_in_one_process_and_in_several(size: int, tmp_path: Path) -> None:
    distances = compare(tmp_path, size, list(plugins.names("methods")))
    assert max(distances.values()) < 2e-3, distances


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    """Losses within images, across images, with a memory, with trained parts of its own, and in closed form."""
    distances = compare(tmp_path, 2, ["finetune", "mmd", "feature_replay", "adversarial", "slda"])
    assert max(distances.values()) < 2e-3, distances


def session(root: Path) -> Session:
    return tiny.session(root, 0, 0, classes=3, each=5)


@pytest.mark.slow
def test_goes_on_after_a_process_was_killed_to_the_bit(tmp_path: Path) -> None:
    training, images = TRAINING.model_copy(update={"checkpoint_every": 1, "optimizer": "adamw"}), tmp_path / "images"

    def train(method: Finetune, checkpoint: Path) -> dict[str, torch.Tensor]:
        one = session(images)
        learn(method, one, tiny.loader(one.train), training, 0, checkpoint, "work", Workers(2))
        return tiny.weights(method)

    uninterrupted = train(learner("finetune"), tmp_path / "whole.safetensors")
    (tmp_path / "marker").touch()
    killed = learner(KilledOnce)
    killed.marker = str(tmp_path / "marker")
    checkpoint = tmp_path / "killed.safetensors"
    with pytest.raises(StorageError, match=r"process 2 of the 2 that train together was ended by signal 9: .* goes on"):
        train(killed, checkpoint)
    assert checkpoint.exists()
    assert not active_children()
    assert not torch.distributed.is_initialized()
    assert tiny.same(train(learner("finetune"), checkpoint), uninterrupted)


def test_reports_the_error_of_another_process(tmp_path: Path) -> None:
    one = session(tmp_path)
    with pytest.raises(DataError, match=r"^the shelf is empty: fill it\.$"):
        learn(learner(FailsInOne), one, tiny.loader(one.train), TRAINING, 0, workers=Workers(2))
    assert "RANK" not in os.environ


class InterruptedOnce(Finetune):
    def loss(self, batch: Batch) -> Losses:
        if self.progress == 0 and os.environ.get("RANK") == "0":
            os.kill(os.getpid(), signal.SIGINT)
        return super().loss(batch)


@pytest.mark.slow
def test_ctrl_c_saves_and_one_process_goes_on(tmp_path: Path) -> None:
    one, checkpoint = session(tmp_path / "images"), tmp_path / "state.safetensors"
    whole, resumed = learner("finetune"), learner("finetune")
    learn(whole, one, tiny.loader(one.train), TRAINING, 0)
    with pytest.raises(KeyboardInterrupt):
        learn(learner(InterruptedOnce), one, tiny.loader(one.train), TRAINING, 0, checkpoint, "work", Workers(2))
    learn(resumed, one, tiny.loader(one.train), TRAINING, 0, checkpoint, "work")
    assert distance(resumed, whole, tiny.batch(one.train).images) < 1e-3


def test_refuses_more_processes_than_a_batch_has_images(tmp_path: Path) -> None:
    images = tiny.loader(session(tmp_path).train)
    work = Work(learner("finetune"), 0, images, TRAINING, 0, "work", torch.get_rng_state(), None)
    with pytest.raises(ConfigError, match="10 processes cannot share a batch of 9 images: take at most 9"):
        Fit(work, Group(0, 10))


@pytest.mark.slow
def test_a_run_under_a_launcher_gives_the_result_of_one_process(tmp_path: Path) -> None:
    tiny.tree(tmp_path / "images", 4, train=5)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"""
source = {{ name = "folder", root = "{tmp_path / "images"}" }}
stream = {{ initial = 2, step = 2 }}
images = {{ size = 32, resize = 36 }}
network = {{ backbone = "test_resnet", pretrained = false, dim = 8 }}
training = {{ epochs = 2, classes_per_batch = 2, device = "cpu", optimizer = "sgd", lr = 1e-3, head_lr = 1e-3 }}
method = {{ name = "mmd" }}
"""
    )
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    script = str(Path(sys.executable).with_name("scrubjay"))
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    results = []
    for prefix, out in ((launcher, "two"), ([sys.executable], "one")):
        command = [*prefix, script, "run", str(recipe), "--out", str(tmp_path / out)]
        subprocess.run(command, check=True, capture_output=True, env=environment, timeout=300)
        results.append(json.loads((tmp_path / out / "generations" / "g1" / "generation.json").read_text())["curves"])
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-4)
