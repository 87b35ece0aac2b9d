"""Options that several methods share: what the cross entropy runs over, and the scale of distilled logits."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import tiny
from scrubjay.losses.cross_entropy import cross_entropy
from scrubjay.losses.distillation import distillation
from scrubjay.losses.kl import kl
from scrubjay.methods import Method
from scrubjay.training import learn


def in_second_session(name: str, tmp_path: Path, **options: object) -> Method:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner(name, **options)
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    learner.begin(second)
    return learner


def shaken(learner: Method) -> Method:
    """With a network that has left its teacher's place."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in learner.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return learner.eval()


@pytest.mark.parametrize("name", ["mmd", "lwf", "kl"])
def test_the_scale_of_distilled_logits(name: str, tmp_path: Path) -> None:
    """1 distils W z + b, whatever the scale of the head; by default what the head gives is distilled."""
    _, second = tiny.two_sessions(tmp_path)
    terms = {}
    for scale in (None, 16.0, 1.0):
        learner = shaken(in_second_session(name, tmp_path, logit_scale=scale))
        assert learner.network.head.scale == 16
        batch = tiny.batch(second.train)
        with torch.no_grad():
            term = learner(batch)["kl" if name == "kl" else "dist"]
            _, l_o = learner.teacher(batch.images)
            _, l_n = learner.network(batch.images)
        loss, weight = (kl, 1.0) if name == "kl" else (distillation, 3.0 if name == "mmd" else 1.0)
        factor = 1.0 if scale is None else scale / 16
        torch.testing.assert_close(term, weight * loss(factor * l_o, factor * l_n[:, :2], 2.0))
        terms[scale] = float(term)
    assert terms[None] == terms[16.0] != terms[1.0]


@pytest.mark.parametrize("name", ["finetune", "mmd", "lora"])
def test_the_cross_entropy_over_all_classes(name: str, tmp_path: Path) -> None:
    _, second = tiny.two_sessions(tmp_path)
    batch = tiny.batch(second.train)
    for over, first in (("new", 2), ("all", 0)):
        learner = shaken(in_second_session(name, tmp_path, ce_over=over))
        losses = learner(batch)
        with torch.no_grad():
            _, logits = learner.network(batch.images)
        torch.testing.assert_close(losses["ce"].detach(), cross_entropy(logits, batch.labels, first))
        learner.zero_grad()
        losses["ce"].backward()
        gradient = learner.network.head.weight.grad
        assert gradient is not None
        assert bool(gradient[:2].any()) == (over == "all")


def test_the_method_passes_the_normalisation_of_mmd_on(tmp_path: Path) -> None:
    _, second = tiny.two_sessions(tmp_path)
    values = {}
    for normalisation in ("pairs", "samples"):
        learner = shaken(in_second_session("mmd", tmp_path, normalisation=normalisation))
        values[normalisation] = float(learner(tiny.batch(second.train))["mmd"].detach())
    assert values["samples"] == pytest.approx(math.sqrt(8) * values["pairs"], rel=1e-5)
