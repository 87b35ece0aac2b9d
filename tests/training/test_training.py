from __future__ import annotations

import math
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from scrubjay.errors import CheckpointError, DataError, ImageError, ScrubjayError, UserError
from scrubjay.methods import Method, Pass
from scrubjay.methods.finetune import Finetune
from scrubjay.models.checkpoint import load_tensors
from scrubjay.training import Learned, TrainingOptions, learn, rate
from scrubjay.types import Batch, Losses, Session


def interrupted_at(step: int) -> type[Method]:
    """Fine-tuning that is sent Ctrl-C in the middle of a step, counted from 0."""

    class Interrupted(Finetune):
        calls = 0

        def loss(self, batch: Batch) -> Losses:
            if type(self).calls == step:
                os.kill(os.getpid(), signal.SIGINT)
            type(self).calls += 1
            return super().loss(batch)

    return Interrupted


def crashing_at(step: int) -> type[Method]:
    class Crashing(Finetune):
        calls = 0

        def loss(self, batch: Batch) -> Losses:
            if type(self).calls == step:
                raise RuntimeError("the power went out")
            type(self).calls += 1
            return super().loss(batch)

    return Crashing


class Exploding(Finetune):
    def loss(self, batch: Batch) -> Losses:
        losses = super().loss(batch)
        losses["rubber"] = losses["ce"] * math.inf
        return losses


def options(**changes: Any) -> TrainingOptions:
    return tiny.TRAINING.model_copy(update=changes)


def train(learner: Method, session: Session, training: TrainingOptions = tiny.TRAINING, **more: Any) -> Learned:
    return learn(learner, session, tiny.loader(session.train), training, more.pop("seed", 0), **more)


@pytest.fixture
def first(tmp_path: Path) -> Session:
    return tiny.session(tmp_path / "images", 0, 0)


@pytest.fixture
def second(tmp_path: Path) -> Session:
    return tiny.session(tmp_path / "images", 1, 2)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("step", [0, 2, 6])
def test_goes_on_after_ctrl_c_to_the_bit(optimizer: str, step: int, first: Session, tmp_path: Path) -> None:
    training = options(optimizer=optimizer, epochs=4)
    whole = tiny.learner()
    expected = train(whole, first, training)
    steps = len(expected.curves["ce"])
    assert steps == 8

    checkpoint, handler = tmp_path / "work.safetensors", signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tiny.learner(interrupted_at(step)), first, training, checkpoint=checkpoint, key="spring")
    assert signal.getsignal(signal.SIGINT) is handler
    assert load_tensors(checkpoint, "")[1]["step"] == step + 1, "the step that was running is finished and kept"

    torch.rand(7)  # another process has another state of the generator
    resumed = tiny.learner()
    found = train(resumed, first, training, checkpoint=checkpoint, key="spring")
    assert tiny.same(tiny.weights(resumed), tiny.weights(whole))
    assert found.curves == expected.curves
    assert found.images == expected.images * (steps - step - 1) // steps


def test_goes_on_after_a_crash_from_the_last_checkpoint(first: Session, tmp_path: Path) -> None:
    training, checkpoint = options(checkpoint_every=2), tmp_path / "work.safetensors"
    whole = tiny.learner()
    expected = train(whole, first, training)
    with pytest.raises(RuntimeError, match="power"):
        train(tiny.learner(crashing_at(3)), first, training, checkpoint=checkpoint)
    assert load_tensors(checkpoint, "")[1]["step"] == 2
    resumed = tiny.learner()
    assert train(resumed, first, training, checkpoint=checkpoint).curves == expected.curves
    assert tiny.same(tiny.weights(resumed), tiny.weights(whole))


def test_the_seed_decides_everything(first: Session) -> None:
    found = []
    for seed in (0, 0, 1):
        learner = tiny.learner()
        train(learner, first, seed=seed)
        found.append(tiny.weights(learner))
    assert tiny.same(found[0], found[1])
    assert not tiny.same(found[0], found[2])


def test_learns_the_same_with_workers(first: Session) -> None:
    alone, helped = tiny.learner(), tiny.learner()
    train(alone, first)
    images = tiny.IMAGES.model_copy(update={"workers": 1})
    learn(helped, first, tiny.loader(first.train, images), tiny.TRAINING, 0)
    assert tiny.same(tiny.weights(alone), tiny.weights(helped))


def test_learns_outside_of_the_main_thread(first: Session) -> None:
    learned: list[Learned] = []
    thread = threading.Thread(target=lambda: learned.append(train(tiny.learner(), first)))
    thread.start()
    thread.join()
    assert learned[0].curves == train(tiny.learner(), first).curves


def test_refuses_a_checkpoint_of_other_work(first: Session, tmp_path: Path) -> None:
    checkpoint = tmp_path / "work.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(tiny.learner(interrupted_at(1)), first, checkpoint=checkpoint, key="spring")
    before = checkpoint.read_bytes()
    with pytest.raises(UserError, match="other data or with other options") as caught:
        train(tiny.learner(), first, checkpoint=checkpoint, key="summer")
    assert str(checkpoint) in str(caught.value)
    assert checkpoint.read_bytes() == before


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_refuses_a_truncated_checkpoint(share: float, first: Session, tmp_path: Path) -> None:
    checkpoint = tmp_path / "work.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(tiny.learner(interrupted_at(1)), first, checkpoint=checkpoint)
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="damaged or incomplete") as caught:
        train(tiny.learner(), first, checkpoint=checkpoint)
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refuses_a_checkpoint_of_another_network(first: Session, tmp_path: Path) -> None:
    checkpoint = tmp_path / "work.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(tiny.learner(interrupted_at(1)), first, checkpoint=checkpoint)
    other = tiny.learner(network=tiny.NETWORK.model_copy(update={"dim": 16}))
    with pytest.raises(CheckpointError, match="of another network") as caught:
        train(other, first, checkpoint=checkpoint)
    assert "\n" not in str(caught.value)


def test_stops_at_a_term_that_is_not_finite(first: Session, tmp_path: Path) -> None:
    checkpoint = tmp_path / "work.safetensors"
    with pytest.raises(ScrubjayError, match=r"session 1, step 0: rubber = inf is not finite: lower") as caught:
        train(tiny.learner(Exploding), first, checkpoint=checkpoint, training=options(checkpoint_every=1))
    assert "ce =" not in str(caught.value)
    assert not checkpoint.exists(), "weights that are not finite must not be gone on from"


def test_a_broken_image_is_left_out_and_named(first: Session) -> None:
    broken = first.train[1].path
    broken.write_bytes(broken.read_bytes()[:60])
    learned = train(tiny.learner(), first)
    assert [path for path, _ in learned.failures] == [str(broken)]
    assert str(broken) not in learned.failures[0][1]
    assert learned.curves["ce"]


def test_a_broken_image_stops_where_that_was_asked_for(first: Session) -> None:
    first.train[1].path.write_text("no image")
    images = tiny.IMAGES.model_copy(update={"on_error": "raise"})
    with pytest.raises(ImageError, match=str(first.train[1].path)):
        learn(tiny.learner(), first, tiny.loader(first.train, images), tiny.TRAINING, 0)


def test_a_class_of_broken_images_alone_cannot_be_learned(first: Session) -> None:
    for sample in first.train[:4]:
        sample.path.write_text("no image")
    with pytest.raises(DataError, match=r"no image of the class of .*class0"):
        train(tiny.learner(), first)


@given(
    steps=st.integers(1, 50),
    warmup=st.integers(0, 10),
    schedule=st.sampled_from(["constant", "cosine"]),
    data=st.data(),
)
def test_rate_is_the_formula(steps: int, warmup: int, schedule: str, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, steps - 1))
    found = rate(step, steps, TrainingOptions.parse({"warmup": warmup, "schedule": schedule}))
    if step < warmup:
        assert found == (step + 1) / warmup
    elif schedule == "constant":
        assert found == 1
    else:
        assert math.isclose(found, math.cos(math.pi / 2 * (step - warmup) / (steps - warmup)) ** 2, abs_tol=1e-12)


def moved(learner: Method, session: Session, training: TrainingOptions) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    before = tiny.weights(learner.network)
    train(learner, session, training)
    after = tiny.weights(learner.network)
    return {
        name: after[name] - value
        for name, value in before.items()
        if name.startswith("embedder.") and value.is_floating_point()
    }


def test_the_rates_of_backbone_head_and_increments(first: Session, second: Session) -> None:
    plain = {"optimizer": "sgd", "epochs": 1, "images_per_class": 4, "weight_decay": 0.0, "warmup": 0}
    plain |= {"freeze_batchnorm": "always", "lr": 1e-3, "head_lr": 1e-3, "increment_lr": 1.0}
    full = moved(tiny.learner(), second, options(**plain))
    assert full["embedder.backbone.conv1.0.weight"].any()
    faster = moved(tiny.learner(), second, options(**plain | {"lr": 4e-3, "head_lr": 2e-3}))
    slower = moved(tiny.learner(), second, options(**plain | {"increment_lr": 0.5}))
    for name, step in full.items():
        factor = 4 if ".backbone." in name else 2
        torch.testing.assert_close(faster[name], factor * step, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(slower[name], 0.5 * step, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(
        moved(tiny.learner(), first, options(**plain | {"increment_lr": 0.5})),
        moved(tiny.learner(), first, options(**plain)),
        rtol=0,
        atol=0,
    )


def test_later_sessions_may_be_shorter(first: Session, second: Session) -> None:
    learner, training = tiny.learner(), options(epochs=3, increment_epochs=1)
    assert len(train(learner, first, training).curves["ce"]) == 6
    assert len(train(learner, second, training).curves["ce"]) == 2
    assert len(train(learner, second, options(epochs=3)).curves["ce"]) == 6
    assert train(tiny.learner(), first, options(epochs=0)) == Learned({}, 0, (), first.train)


def batchnorms(learner: Method) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, layer in learner.network.named_modules()
        if isinstance(layer, torch.nn.BatchNorm2d)
        for key, value in layer.state_dict().items()
    }


@pytest.mark.parametrize(
    ("choice", "changes"), [("never", [True, True]), ("after_first", [True, False]), ("always", [False, False])]
)
def test_batchnorm_keeps_still_when_frozen(choice: str, changes: list[bool], first: Session, second: Session) -> None:
    learner = tiny.learner()
    before = batchnorms(learner)
    assert before
    for session, expected in zip((first, second), changes, strict=True):
        train(learner, session, options(freeze_batchnorm=choice))
        after = batchnorms(learner)
        for part in ("running_mean", "running_var", ".weight", ".bias", "num_batches_tracked"):
            moves = [not torch.equal(before[name], after[name]) for name in before if name.endswith(part)]
            assert moves == [expected] * len(moves), part
        before = after


def test_frozen_trains_nothing_after_the_first_session(first: Session, second: Session) -> None:
    learner = tiny.learner("frozen")
    assert train(learner, first).curves
    before = tiny.weights(learner.network)
    learned = train(learner, second, options(freeze_batchnorm="never"))
    assert learned == Learned({}, 0, (), second.train)
    after = tiny.weights(learner.network)
    assert torch.equal(after.pop("head.weight")[:2], before.pop("head.weight"))
    assert torch.equal(after.pop("head.bias")[:2], before.pop("head.bias"))
    assert tiny.same(before, after)


def test_the_pass_at_the_end_gives_views_on_request(first: Session) -> None:
    seen: list[Batch] = []

    class Looking(Finetune):
        def end(self, session: Session, images: Pass) -> None:
            super().end(session, images)
            for views in (0, 2, 2):
                seen.extend(images(views))

    learn(tiny.learner(Looking), first, tiny.loader(first.train), options(epochs=0), 0)
    number = len(first.train)
    centre, *random = seen
    assert centre.indices.tolist() == list(range(number))
    assert len(random) == 2
    assert random[0].indices.tolist() == [index for index in range(number) for _ in range(3)]
    assert torch.equal(random[0].images, random[1].images)
    assert torch.equal(random[0].images[::3], centre.images)


def test_the_method_ends_in_evaluation_mode(first: Session) -> None:
    learner = tiny.learner("mmd")
    train(learner, first)
    assert not any(module.training for module in learner.modules())
