"""The learned projection: its term is the formula, and its bridge what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from feature_runs import draw, past, unit

import tiny
from scrubjay.losses.l2 import l2
from scrubjay.losses.projection import projection
from scrubjay.methods.projection import Rotation, rotation
from scrubjay.training import learn
from scrubjay.types import Batch


@pytest.mark.parametrize("form", ["linear", "affine", "mlp"])
@pytest.mark.parametrize("distance", ["squared", "bfp"])
def test_projection_is_the_distance_of_the_projected(form: str, distance: str, tmp_path: Path) -> None:
    learner, batch, (z_o, _, z_n, _) = past("projection", tmp_path, form=form, distance=distance, weight=1.5)
    with torch.no_grad():
        torch.testing.assert_close(learner.bridge(z_n), z_n, msg="each session starts from the identity")
        for parameter in learner.bridge.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        projected = learner.bridge(z_n)
    losses = learner(batch)
    assert list(losses) == ["ce", "triplet", "projection"]
    expected = projection(z_o, projected, squared=distance == "squared")
    torch.testing.assert_close(losses["projection"].detach(), 1.5 * expected)
    losses["projection"].backward()
    assert all(parameter.grad is not None for parameter in learner.bridge.parameters())
    assert learner.network.embedder.projection.weight.grad is not None


def test_a_rotation_follows_the_batches(tmp_path: Path) -> None:
    learner, batch, (z_o, _, z_n, _) = past("projection", tmp_path, form="orthogonal")
    losses = learner(batch)
    M = 0.9 * torch.eye(8) / 8 + 0.1 * z_o.T @ z_n / 8
    U, _, Vh = torch.linalg.svd(M)
    torch.testing.assert_close(learner.bridge.weight, U @ Vh)
    torch.testing.assert_close(losses["projection"].detach(), 10 * l2(z_o, z_n @ (U @ Vh).T))


def test_the_kept_rotation_is_that_of_all_images(tmp_path: Path) -> None:
    """A network that has turned by a rotation R is turned back: the bridge is Rᵀ."""
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner("projection", form="orthogonal")
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    learner.begin(second)
    learner.eval()
    R = torch.linalg.qr(draw(8, 8, seed=3)).Q.float()
    with torch.no_grad():
        learner.network.embedder.projection.weight.copy_(R @ learner.network.embedder.projection.weight)
        learner.network.embedder.projection.bias.copy_(R @ learner.network.embedder.projection.bias)
    noise = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    bright = (noise.float() * torch.linspace(0, 1, 64)[:, None, None, None]).to(torch.uint8)
    batches = [Batch(bright, torch.full((64,), 2), torch.arange(64))]
    learner.end(second, lambda: iter(batches))
    W = learner.bridge.weight
    torch.testing.assert_close(W @ W.T, torch.eye(8), rtol=0, atol=1e-5)
    with torch.no_grad():
        z_o, z_n = learner.teacher(bright)[0], learner.network(bright)[0]
    torch.testing.assert_close(learner.bridge(z_n), z_o, rtol=0, atol=1e-3)


def test_rotation_recovers_a_rotation_and_leaves_what_it_does_not_see() -> None:
    z, R = unit(50, 6), torch.linalg.qr(draw(6, 6, seed=2)).Q
    torch.testing.assert_close(rotation(z.T @ (z @ R.T)), R.T)
    flat = z.clone()
    flat[:, -1] = 0
    torch.testing.assert_close(rotation(flat.T @ flat + 1e-6 * torch.eye(6)), torch.eye(6, dtype=torch.float64))
    module = Rotation(6)
    for _ in range(200):
        module.update(z.float(), (z @ R.T).float())
    torch.testing.assert_close(module.weight, R.T.float(), rtol=0, atol=1e-4)


def test_the_bridge_learns_and_starts_anew(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner("projection")
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    assert torch.equal(learner.bridge.weight, torch.eye(8)), "there is nothing to go back to"
    learn(learner, second, tiny.loader(second.train), tiny.TRAINING, 0)
    assert not torch.equal(learner.bridge.weight, torch.eye(8))
    learner.begin(tiny.session(tmp_path, 2, 4))
    assert torch.equal(learner.bridge.weight, torch.eye(8))
