"""Latent replay: stored activations take part in every batch and in the metric."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from scrubjay.components.latents import Latents
from scrubjay.errors import ConfigError
from scrubjay.methods.latent_replay import LatentReplay
from scrubjay.models.embedder import Network
from scrubjay.training import learn

FROZEN = tiny.NETWORK.model_copy(update={"frozen": "layer2", "features": "stages"})


def test_stored_activations_are_what_the_network_takes(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner("latent_replay", FROZEN, views=1)
    assert isinstance(learner, LatentReplay)
    for number, session in enumerate((first, second), 1):
        learn(learner, session, tiny.loader(session.train), tiny.TRAINING, 0)
        assert len(learner.latents.labels) == 16 * number
    assert sorted(set(learner.latents.labels.tolist())) == [0, 1, 2, 3]
    centre_crops = [first.train[0], second.train[-1]]
    with torch.no_grad():
        exact = learner.network.eval().embedder(tiny.batch(centre_crops).images)
        stored = torch.cat([activations for activations, _ in learner.latents.batches()])
        replayed = learner.network.embedder(stored[[0, -2]])
    torch.testing.assert_close(replayed, exact, rtol=0, atol=1e-2)


def test_old_classes_take_part_in_the_loss(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner("latent_replay", FROZEN)
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    learner.begin(second)
    learner(tiny.batch(second.train)).total.backward()
    gradient = learner.network.head.weight.grad
    assert gradient is not None
    assert (gradient.abs().sum(1) > 0).all()


def test_drawn_activations_have_the_classes_asked_for() -> None:
    latents = Latents()
    latents.add(torch.arange(24.0).view(6, 2, 2), torch.tensor([0, 0, 1, 1, 2, 2]))
    values, labels = latents.drawn(2, 3)
    assert values.shape == (6, 2, 2)
    assert len(set(labels.tolist())) == 2
    assert sorted(torch.unique(labels, return_counts=True)[1].tolist()) == [3, 3]
    assert all(int(value[0, 0]) // 8 == label for value, label in zip(values, labels, strict=True))


def test_needs_a_frozen_part() -> None:
    with pytest.raises(ConfigError, match=r"nothing is frozen: set network\.frozen"):
        LatentReplay(Network(tiny.NETWORK))
