from __future__ import annotations

from pathlib import Path

import torch

import tiny
from scrubjay.components.layer_moments import layers, matrix
from scrubjay.losses.apart import apart
from scrubjay.methods import Method
from scrubjay.training import learn
from scrubjay.types import Session


def second_session(tmp_path: Path, **options: object) -> tuple[Method, Session]:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner("moments", **options)
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    learner.begin(second)
    return learner.eval(), second


def test_its_terms_are_the_formulas(tmp_path: Path) -> None:
    learner, second = second_session(tmp_path, weight=2.5, apart_weight=0.5, budget=3)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in learner.network.embedder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    batch = tiny.batch(second.train)
    losses = learner(batch)
    assert list(losses) == ["ce", "triplet", "apart", "moments"]
    z, _ = learner.network(batch.images)
    assert learner.memory is not None
    assert len(learner.memory.vectors) == 6
    torch.testing.assert_close(losses["apart"], 0.5 * apart(z, batch.labels, learner.memory.vectors, 0.2))
    before = dict(learner.teacher.embedder.named_modules())
    total = 0.0
    for name, layer in layers(learner.network.embedder).items():
        moments = learner.moments[name.replace(".", "/")]
        change = (matrix(layer) - matrix(before[name])).detach()
        for group in range(len(change)):
            A, G = (
                part(torch.eye(part.directions.shape[1]).expand(len(change), -1, -1))[group]
                for part in (moments.inputs, moments.effects)
            )
            total += float(torch.trace(G @ change[group] @ A @ change[group].T))
    assert total > 0
    torch.testing.assert_close(losses["moments"].item(), 2.5 * total, rtol=1e-3, atol=1e-6)


def test_nothing_is_charged_before_anything_moves(tmp_path: Path) -> None:
    learner, second = second_session(tmp_path)
    losses = learner(tiny.batch(second.train))
    assert losses["moments"] == 0


def test_moments_of_all_sessions_are_weighed_by_their_images(tmp_path: Path) -> None:
    learner, second = second_session(tmp_path, rank=1000)
    learner.train()
    seen: list[torch.Tensor] = []
    inner = learner.network.embedder.projection
    handle = inner.register_forward_hook(lambda _, x, __: seen.append(x[0].detach()))
    batches = [tiny.batch(second.train)]
    before = learner.moments["projection"].inputs(torch.eye(inner.in_features + 1)[None]).clone()
    learner.eval().end(second, lambda: iter(batches))
    handle.remove()
    rows = torch.cat([seen[-1], torch.ones(len(seen[-1]), 1)], 1)
    expected = 0.5 * before + 0.5 * rows.T @ rows / len(rows)
    after = learner.moments["projection"].inputs(torch.eye(inner.in_features + 1)[None])
    torch.testing.assert_close(after, expected, rtol=1e-3, atol=1e-4)
    assert int(learner.counted) == 16


def test_old_embeddings_move_less_than_under_fine_tuning(tmp_path: Path) -> None:
    moved = {}
    for weight in (0.0, 1000.0):
        root = tmp_path / str(weight)
        learner, second = second_session(root, weight=weight, apart_weight=0.0)
        old = tiny.batch(tiny.session(root, 0, 0).train)
        with torch.no_grad():
            before, _ = learner.network(old.images)
        learn(learner, second, tiny.loader(second.train), tiny.TRAINING, 0)
        with torch.no_grad():
            moved[weight] = float((learner.network(old.images)[0] - before).square().sum(1).mean())
    assert moved[1000.0] < 0.5 * moved[0.0]
