"""Outputs, clouds and maps held where they were: that the terms are the formulas, and that the game is no collapse."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from scrubjay.components.discriminator import Discriminator, accuracy
from scrubjay.errors import ConfigError
from scrubjay.losses.adversarial import adversarial, deception
from scrubjay.losses.gradient_reversal import reversal_coefficient
from scrubjay.losses.kl import kl
from scrubjay.losses.l2 import cosine
from scrubjay.losses.layerwise import pod, squares
from scrubjay.losses.mmd import mmd
from scrubjay.methods import Method
from scrubjay.methods.adversarial import Adversarial, AdversarialOptions
from scrubjay.models.head import GrowingHead
from scrubjay.models.stages import watching
from scrubjay.training import learn
from scrubjay.types import Batch, Session


def past(name: str, tmp_path: Path, **options: Any) -> tuple[Method, Batch]:
    """A method in its second session, its network away from its teacher's place, and a batch."""
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner(name, **options)
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    learner.begin(second)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in learner.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return learner.eval(), tiny.batch(second.train)


@pytest.mark.parametrize("rescale", [True, False])
def test_kl_is_the_divergence_over_the_old_classes(rescale: bool, tmp_path: Path) -> None:
    learner, batch = past("kl", tmp_path, weight=0.7, temperature=3.0, rescale=rescale)
    losses = learner(batch)
    l_o, l_n = learner.teacher(batch.images)[1], learner.network(batch.images)[1]
    assert list(losses) == ["ce", "triplet", "kl"]
    assert losses["kl"] > 1e-4
    torch.testing.assert_close(losses["kl"], 0.7 * kl(l_o, l_n[:, :2], 3.0, rescale))


D_OF = {"pod": pod, "squares": squares, "mmd": lambda o, n: mmd(o.mean((2, 3)), n.mean((2, 3)))}


@pytest.mark.parametrize("form", D_OF)
def test_layerwise_is_the_mean_over_stages(form: str, tmp_path: Path) -> None:
    learner, batch = past("layerwise", tmp_path, spatial=2.0, flat=0.5, form=form)
    losses = learner(batch)
    stages = ("act1", "layer1", "layer2", "layer3", "layer4")
    with watching(learner.teacher.embedder, stages) as o:
        z_o, _ = learner.teacher(batch.images)
    with watching(learner.network.embedder, stages) as n:
        z_n, _ = learner.network(batch.images)
    factor = math.sqrt(4 / 2)
    expected = factor * 2.0 * sum(D_OF[form](o[stage], n[stage]) for stage in stages) / 5
    assert list(losses) == ["ce", "triplet", "spatial", "flat"]
    assert losses["spatial"] > 1e-3
    torch.testing.assert_close(losses["spatial"], expected)
    torch.testing.assert_close(losses["flat"], factor * 0.5 * cosine(z_o, z_n))
    losses["spatial"].backward()
    assert learner.network.embedder.backbone.layer2[0].conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_convnext", "test_mambaout", "test_vit"])
def test_layerwise_learns_with_any_kind_of_backbone(backbone: str, tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner("layerwise", tiny.NETWORK.model_copy(update={"backbone": backbone}))
    images = tiny.IMAGES.model_copy(update={"size": 160, "resize": 160}) if backbone == "test_vit" else tiny.IMAGES
    training = tiny.TRAINING.model_copy(update={"epochs": 1})
    for session in (first, second):
        curves = learn(learner, session, tiny.loader(session.train, images), training, 0).curves
    assert curves["spatial"][0] == pytest.approx(0, abs=1e-5)
    assert curves["spatial"][-1] > 1e-5


def test_layerwise_compares_the_trained_stages_alone(tmp_path: Path) -> None:
    frozen = tiny.NETWORK.model_copy(update={"frozen": "layer2"})
    assert tiny.learner("layerwise", frozen).stages == ("layer3", "layer4")  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="freezes all stages"):
        tiny.learner("layerwise", tiny.NETWORK.model_copy(update={"frozen": "layer4"}))


def discriminated(learner: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    log_D_n, log_D_o = learner.D(learner.network(batch.images)[0], learner.teacher(batch.images)[0])
    return log_D_n, log_D_o


def slopes(loss: Tensor, learner: Any) -> tuple[Tensor, Tensor]:
    """Of the first layer of D and of the projection; zeros where there is none."""
    of = [learner.D.stack[0].weight, learner.network.embedder.projection.weight]
    found = torch.autograd.grad(loss, of, retain_graph=True, allow_unused=True)
    one, other = (torch.zeros_like(p) if g is None else g for p, g in zip(of, found, strict=True))
    return one, other


def test_reversal_turns_the_gradient_round_on_its_way_to_the_embedder(tmp_path: Path) -> None:
    learner, batch = past("adversarial", tmp_path, weight=0.5)
    learner.progress = 0.3
    losses = learner(batch)
    log_D_n, log_D_o = discriminated(learner, batch)
    plain = 0.5 * 0.7 * adversarial(log_D_o, log_D_n)
    assert list(losses) == ["ce", "triplet", "adversarial"]
    torch.testing.assert_close(losses["adversarial"], plain)
    of_D, of_embedder = slopes(losses["adversarial"], learner)
    plain_D, plain_embedder = slopes(plain, learner)
    assert plain_embedder.abs().sum() > 0
    torch.testing.assert_close(of_D, plain_D)
    torch.testing.assert_close(of_embedder, -reversal_coefficient(0.3) * plain_embedder)
    assert learner.figures == {"D accuracy": accuracy(log_D_n, log_D_o)}


def test_alternating_gives_each_side_its_own_objective(tmp_path: Path) -> None:
    learner, batch = past("adversarial", tmp_path, weight=0.5, form="alternating")
    learner.progress = 0.3
    losses = learner(batch)
    log_D_n, log_D_o = discriminated(learner, batch)
    assert list(losses) == ["ce", "triplet", "deception", "discriminator"]
    torch.testing.assert_close(losses["deception"], 0.5 * 0.7 * deception(log_D_n))
    torch.testing.assert_close(losses["discriminator"], adversarial(log_D_o, log_D_n))
    of_D, of_embedder = slopes(losses["deception"], learner)
    assert (of_D == 0).all()
    torch.testing.assert_close(of_embedder, slopes(0.5 * 0.7 * deception(log_D_n), learner)[1])
    of_D, of_embedder = slopes(losses["discriminator"], learner)
    assert (of_embedder == 0).all()
    torch.testing.assert_close(of_D, slopes(adversarial(log_D_o, log_D_n), learner)[0])


@pytest.mark.parametrize("form", ["reversal", "alternating"])
def test_a_batch_enters_the_statistics_of_the_discriminator_once(form: str, tmp_path: Path) -> None:
    learner, batch = past("adversarial", tmp_path, form=form)
    learner.train()
    before = int(learner.D.stack[1].num_batches_tracked)  # type: ignore[union-attr, index, arg-type]
    learner(batch)
    assert int(learner.D.stack[1].num_batches_tracked) == before + 1  # type: ignore[union-attr, index, arg-type]


def test_a_discriminator_is_drawn_anew_in_later_sessions(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    one, other = tiny.learner("adversarial"), tiny.learner("adversarial")
    at_first = tiny.weights(one.D)  # type: ignore[arg-type]
    curves = [learn(one, session, tiny.loader(session.train), tiny.TRAINING, 0).curves for session in (first, second)]
    assert "D accuracy" not in curves[0]
    assert len(curves[1]["D accuracy"]) == len(curves[1]["adversarial"])
    assert all(0 <= value <= 1 for value in curves[1]["D accuracy"])
    learn(other, first, tiny.loader(first.train), tiny.TRAINING, 0)
    assert tiny.same(tiny.weights(other.D), at_first)  # type: ignore[arg-type]
    one.begin(second)
    assert not torch.equal(one.D.stack[0].weight, at_first["stack.0.weight"])  # type: ignore[union-attr, index]
    assert (one.D.stack[1].running_mean == 0).all()  # type: ignore[union-attr, index, operator]
    assert one.figures == {}


def test_a_discriminator_is_of_the_bytes_that_its_method_says() -> None:
    for layers in (2, 3, 5):
        D = Discriminator(16, layers, 0.2)
        floats = [value for value in D.state_dict().values() if value.is_floating_point()]
        assert sum(value.numel() for value in floats) == 256 * (16 + 7 + (layers - 2) * 261) + 2


def test_discriminator_sees_a_shift_of_the_mean() -> None:
    torch.manual_seed(0)
    D, z = Discriminator(4, 2, 0.0), torch.randn(64, 4)
    optimizer = torch.optim.Adam(D.parameters(), lr=1e-2)
    for _ in range(30):
        log_D_n, log_D_o = D(z + 3, z)
        optimizer.zero_grad()
        adversarial(log_D_o, log_D_n).backward()
        optimizer.step()
    assert accuracy(*D(z + 3, z)) == 1
    assert accuracy(torch.zeros(0, 2), torch.zeros(0, 2)) == 0


class Toy(nn.Module):
    """A network on vectors of 16 numbers, as a method needs one."""

    def __init__(self) -> None:
        super().__init__()
        self.options = SimpleNamespace(dim=16)
        self.embedder = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16))
        self.head = GrowingHead(16, 16.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = nn.functional.normalize(self.embedder(x), dim=1)
        return z, self.head(z)


def played(form: str, steps: int, **options: Any) -> tuple[Adversarial, list[float], Batch]:
    """A first session of 8 classes and a second of 8 others, played on drawn vectors."""
    torch.manual_seed(0)
    centres = 2 * torch.randn(16, 16)
    game = Adversarial(Toy(), AdversarialOptions(form=form, **options))  # type: ignore[arg-type]

    def batch(first: int) -> Batch:
        labels = first + torch.arange(8).repeat_interleave(5)
        return Batch(centres[labels] + 0.5 * torch.randn(40, 16), labels, torch.arange(40))

    accuracies: list[float] = []
    for index in (0, 1):
        names = tuple(str(label) for label in range(8))
        game.begin(Session(index, names, 8 * index, ()))
        game.train()
        optimizer = torch.optim.Adam([p for p in game.parameters() if p.requires_grad], lr=1e-3)
        for step in range(steps):
            game.progress = step / steps
            losses = game(batch(8 * index))
            optimizer.zero_grad()
            losses.total.backward()
            optimizer.step()
            accuracies += [game.figures["D accuracy"]] if index else []
    return game.eval(), accuracies, batch(8)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("form", ["reversal", "alternating"])
def test_neither_side_of_the_game_collapses(form: str) -> None:
    game, accuracies, batch = played(form, 200)
    with torch.no_grad():
        z, _ = game.network(batch.images)
        z_o, _ = game.teacher(batch.images)
    S, same = z @ z.T, batch.labels[:, None] == batch.labels
    assert z.var(0).sum() > 0.5 * z_o.var(0).sum(), "the embeddings have drawn together"
    assert S[same].mean() - S[~same].mean() > 0.5, "classes are no longer apart"
    assert mean(accuracies) > 0.6, "the discriminator tells nothing"
    assert mean(accuracies[25:150]) < 0.97, "the embedder does not defend itself"
