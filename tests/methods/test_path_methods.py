"""Importances by path integral: SI and ALASSO against every step taken down."""

from __future__ import annotations

from pathlib import Path

import torch
from importance_runs import importances, in_second, places, run
from torch import Tensor

import tiny
from scrubjay.components.importance import trained
from scrubjay.losses.quadratic import asymmetric, stiffness
from scrubjay.methods import Method, method
from scrubjay.types import Batch, Losses


def recording(name: str) -> type[Method]:
    """A method that takes down, before every step, where it is and the slope of its first two terms."""
    kind = method(name)

    class Recording(kind):  # type: ignore[valid-type, misc]
        def loss(self, batch: Batch) -> Losses:
            losses: Losses = super().loss(batch)
            parameters = trained(self.network.embedder)
            slopes = torch.autograd.grad(losses["ce"] + losses["triplet"], list(parameters.values()), retain_graph=True)
            steps = self.__dict__.setdefault("steps", [])
            steps.append((places(self), dict(zip(parameters, slopes, strict=True))))
            return losses

    return Recording


def path_by_loops(learner: Method) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """ω and Δ of the session that was just learned."""
    steps, last = learner.__dict__.pop("steps"), places(learner)
    omega = {name: torch.zeros_like(slope) for name, slope in steps[0][1].items()}
    for (here, slopes), (there, _) in zip(steps, [*steps[1:], (last, None)], strict=True):
        for name, slope in slopes.items():
            omega[name] -= slope * (there[name] - here[name])
    return omega, {name: last[name] - steps[0][0][name] for name in omega}


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5 * max(1e-6, float(expected.abs().max())))


def test_si_integrates_the_loss_of_the_task_alone(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner(recording("si"), weight=50.0, damping=0.2)
    expected: dict[str, Tensor] = {}
    for session in (first, second):
        run(learner, session, epochs=3, optimizer="sgd", lr=0.01, head_lr=0.01)
        omega, way = path_by_loops(learner)
        for name in omega:
            gained = omega[name].clamp_min(0) / (way[name].square() + 0.2)
            expected[name] = expected.get(name, torch.zeros_like(gained)) + gained
            close(importances(learner)[name], expected[name])


def test_si_takes_no_averaging_for_a_step(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    plain, averaged = tiny.learner("si"), tiny.learner("si", average=0.5)
    for learner in (plain, averaged):
        run(learner, first)
        run(learner, second)
    assert tiny.same(importances(plain), importances(averaged))
    assert not tiny.same(places(plain), places(averaged))


def test_alasso_is_steep_off_the_side_it_came_from(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner(recording("alasso"), weight=20.0, a=3.0, estimate_weight=0.7, estimate_a=2.0, epsilon=1e-3)
    start = places(learner)
    run(learner, first, epochs=3, optimizer="sgd", lr=0.01, head_lr=0.01)
    omega, way = path_by_loops(learner)
    Omega = {name: (omega[name] / (way[name].square() + 0.1)).clamp_min(0) for name in omega}
    for name, value in Omega.items():
        close(importances(learner)[name], value)

    anchor, Omega = places(learner), importances(learner)
    run(learner, second, epochs=3, optimizer="sgd", lr=0.01, head_lr=0.01)
    found = importances(learner)
    omega, way = path_by_loops(learner)
    end = places(learner)
    for name in omega:
        around = (end[name], anchor[name], Omega[name], start[name])
        risen = stiffness(*around, a=2.0, epsilon=0.0) * way[name].square()
        close(found[name], torch.maximum((omega[name] - 0.7 * risen) / (way[name].square() + 0.1), Omega[name]))


def test_alassos_term_is_the_asymmetric_quadratic(tmp_path: Path) -> None:
    start = places(tiny.learner("alasso"))
    learner, second, anchor = in_second("alasso", tmp_path, weight=3.0, a=2.5, epsilon=0.01)
    losses, Omega = learner(tiny.batch(second.train)), importances(learner)
    expected = sum(
        asymmetric(theta.detach(), anchor[name], Omega[name], start[name], a=2.5, epsilon=0.01)
        for name, theta in trained(learner.network.embedder).items()
    )
    assert list(losses) == ["ce", "triplet", "alasso"]
    torch.testing.assert_close(losses["alasso"].detach(), 3.0 * expected)
