"""The quadratic penalties: what they keep, and that their terms are the formulas."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from importance_runs import importances, in_second, places, run
from torch import Tensor

import tiny
from scrubjay.components.importance import trained
from scrubjay.generations.lineage import Lineage
from scrubjay.methods import Method, method
from scrubjay.models.checkpoint import load_tensors
from scrubjay.training import Learned, learn
from scrubjay.types import Batch, Losses, Session

QUADRATIC = {"ewc": "fisher", "mas": "omega", "si": "omega", "alasso": "omega"}
every = pytest.mark.parametrize("name", QUADRATIC)
Slopes = dict[str, Tensor]


@pytest.mark.parametrize(("name", "weight", "factor"), [("ewc", 7.0, 3.5), ("mas", 7.0, 7.0), ("si", 7.0, 7.0)])
def test_the_term_is_the_weighted_square(name: str, weight: float, factor: float, tmp_path: Path) -> None:
    learner, second, anchor = in_second(name, tmp_path, weight=weight)
    losses = learner(tiny.batch(second.train))
    F = importances(learner)
    parameters = trained(learner.network.embedder)
    assert list(losses) == ["ce", "triplet", name]
    assert 0 < len(parameters) < len(F), "frozen BatchNorm has an importance and takes no part"
    expected = sum((F[key] * (theta.detach() - anchor[key]).square()).sum() for key, theta in parameters.items())
    assert losses[name] > 0
    torch.testing.assert_close(losses[name].detach(), factor * expected)


@every
def test_nothing_pulls_at_the_start_of_a_session(name: str, tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner(name)
    run(learner, first)
    learner.begin(second)
    learner.eval()
    assert learner(tiny.batch(second.train))[name] == 0


@every
def test_what_matters_moves_less(name: str, tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)

    def moved(weight: float) -> float:
        learner = tiny.learner(name, weight=weight)
        run(learner, first)
        before, F = places(learner), importances(learner)
        run(learner, second, epochs=8)
        after = places(learner)
        return float(sum((F[key] * (after[key] - before[key]).square()).sum() for key in F))

    assert moved(1e5) < 0.5 * moved(0.0)


@every
def test_keeps_the_bytes_that_it_says(name: str, tmp_path: Path) -> None:
    first, _ = tiny.two_sessions(tmp_path)
    learner = tiny.learner(name)
    run(learner, first)
    Lineage(tmp_path / "line").add(learner, tiny.record(first.classes))
    tensors, _ = load_tensors(tmp_path / "line" / "g0" / "method.safetensors", "")
    P = sum(parameter.numel() for parameter in learner.network.embedder.parameters())
    assert sum(value.numel() * value.element_size() for value in tensors.values()) == (8 if name == "alasso" else 4) * P


@every
def test_a_frozen_part_has_no_importance(name: str, tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    network = tiny.NETWORK.model_copy(update={"frozen": "layer3"})
    learner = tiny.learner(name, network)
    assert not any("layer3" in key or "layer1" in key for key in learner.state_dict() if not key.startswith("network."))
    run(learner, first)
    curves = run(learner, second).curves
    assert any(key.startswith("backbone.layer4") for key in importances(learner))
    assert curves[name][-1] > 0


@every
def test_a_later_session_that_was_cut_goes_on_to_the_bit(name: str, tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    kind, line = method(name), Lineage(tmp_path / "line")

    class Cut(kind):  # type: ignore[valid-type, misc]
        calls = 0

        def loss(self, batch: Batch) -> Losses:
            Cut.calls += 1
            if Cut.calls == 3:
                os.kill(os.getpid(), signal.SIGINT)
            losses: Losses = super().loss(batch)
            return losses

    learner = tiny.learner(name)
    run(learner, first)
    line.add(learner, tiny.record(first.classes))
    training = tiny.TRAINING.model_copy(update={"epochs": 4})
    expected = learn(learner, second, tiny.loader(second.train), training, 0)

    def go_on(of: type[Method]) -> tuple[Method, Learned]:
        later = tiny.learner(of)
        line.restore(line.get("g0"), later)
        checkpoint = tmp_path / "cut.safetensors"
        return later, learn(later, second, tiny.loader(second.train), training, 0, checkpoint)

    with pytest.raises(KeyboardInterrupt):
        go_on(Cut)
    resumed, found = go_on(kind)
    assert expected.curves[name][-1] > 0
    assert found.curves == expected.curves
    assert tiny.same(tiny.weights(resumed), tiny.weights(learner))


@every
def test_bfloat16_learns(name: str, tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner(name)
    run(learner, first, precision="bf16")
    run(learner, second, precision="bf16")
    found = importances(learner)
    assert all(torch.isfinite(value).all() and (value >= 0).all() for value in found.values())
    assert any((value > 0).any() for value in found.values())


def fisher_by_loops(learner: Method, session: Session, labels: Callable[[Tensor, int], dict[int, float]]) -> Slopes:
    """Mean over images of the weighted squared slopes of log p(y|x), for the labels that are asked for."""
    learner.network.eval()
    parameters = trained(learner.network.embedder)
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    batch = tiny.batch(session.train)
    for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
        for y in range(session.first_label, session.first_label + len(session.classes)):
            _, logits = learner.network(image[None])
            p = logits[0, session.first_label :].softmax(0)
            weight = labels(p.detach(), label - session.first_label).get(y - session.first_label, 0.0)
            slopes = torch.autograd.grad(p[y - session.first_label].log(), list(parameters.values()))
            for name, slope in zip(parameters, slopes, strict=True):
                total[name] += weight * slope.square() / len(batch.labels)
    return total


def expected_labels(p: Tensor, label: int) -> dict[int, float]:
    return dict(enumerate(p.tolist()))


def true_label(p: Tensor, label: int) -> dict[int, float]:
    return {label: 1.0}


@pytest.mark.parametrize(("fisher", "labels"), [("expected", expected_labels), ("empirical", true_label)])
def test_fisher_is_a_loop_over_images(fisher: str, labels: Any, tmp_path: Path) -> None:
    first, _ = tiny.two_sessions(tmp_path)
    learner = tiny.learner("ewc", fisher=fisher)
    run(learner, first)
    expected, found = fisher_by_loops(learner, first, labels), importances(learner)
    assert found.keys() == expected.keys()
    for name, F in expected.items():
        torch.testing.assert_close(found[name], F, rtol=1e-3, atol=1e-6 * float(F.max()))


def test_sampled_fisher_is_one_of_the_labels_and_the_same_in_every_run(tmp_path: Path) -> None:
    first, _ = tiny.two_sessions(tmp_path)
    one, other = tiny.learner("ewc"), tiny.learner("ewc")
    run(one, first)
    run(other, first)
    assert tiny.same(importances(one), importances(other))
    bound = fisher_by_loops(one, first, lambda p, label: dict.fromkeys(range(len(p)), 1.0))
    assert all((bound[name] * 1.001 + 1e-6 >= F).all() for name, F in importances(one).items())


def test_fisher_is_clipped_mixed_and_of_few_images(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner("ewc", clip=1e-3, mix=0.25, fisher="empirical", images=2)
    run(learner, first)
    before = importances(learner)
    assert max(float(F.max()) for F in before.values()) == pytest.approx(1e-3)
    run(learner, second)
    few = Session(1, second.classes, 2, (second.train[0], second.train[4]))
    now, after = fisher_by_loops(learner, few, true_label), importances(learner)
    for name in trained(learner.network.embedder):
        mixed = 0.25 * before[name] + 0.75 * now[name].clamp_max(1e-3)
        torch.testing.assert_close(after[name], mixed, rtol=1e-3, atol=1e-8)
    assert torch.equal(after["backbone.layer1.0.bn1.weight"], before["backbone.layer1.0.bn1.weight"])


def sensitivity_by_loops(learner: Method, session: Session) -> Slopes:
    learner.network.eval()
    parameters = trained(learner.network.embedder)
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    images = tiny.batch(session.train).images
    for image in images:
        z = learner.network.embedder(image[None])[0]
        rows, biases = learner.network.head.weight, learner.network.head.bias
        square = sum((row @ z + bias) ** 2 for row, bias in zip(rows, biases, strict=True))
        for name, slope in zip(parameters, torch.autograd.grad(square, list(parameters.values())), strict=True):
            total[name] += slope.abs() / len(images)
    return total


def test_mas_adds_up_the_sensitivity_of_the_scores(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner("mas")
    run(learner, first)
    before = importances(learner)
    for name, omega in sensitivity_by_loops(learner, first).items():
        torch.testing.assert_close(before[name], omega, rtol=1e-3, atol=1e-5)
    run(learner, second)
    after = importances(learner)
    for name, omega in sensitivity_by_loops(learner, second).items():
        torch.testing.assert_close(after[name], before[name] + omega, rtol=1e-3, atol=1e-5)
