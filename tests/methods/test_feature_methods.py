"""Methods that keep features: their terms are the formulas, their memories and bridges what they say."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import pytest
import torch
from feature_runs import draw, past, unit
from torch import Tensor
from torch.nn.functional import normalize

import tiny
from scrubjay.generations.lineage import Lineage
from scrubjay.losses.cross_entropy import cross_entropy
from scrubjay.losses.drift import drift
from scrubjay.losses.elastic import elastic, feature_matrix
from scrubjay.losses.l2 import l2
from scrubjay.losses.metric.triplet import triplet
from scrubjay.methods import Method, method
from scrubjay.methods.cvs import data_coherence, model_coherence
from scrubjay.methods.feature_replay import roots
from scrubjay.training import learn
from scrubjay.types import Batch, Losses

MODES = ["prototypes", "gaussian", "vectors"]


@pytest.mark.parametrize("mode", MODES)
def test_feature_replay_is_the_sum_of_its_terms(mode: str, tmp_path: Path) -> None:
    weights = {"replay": 2.0, "replay_triplet": 3.0, "features": 4.0, "elastic": 5.0, "epsilon": 0.02}
    learner, batch, (z_o, _, z_n, l_n) = past("feature_replay", tmp_path, mode=mode, budget=3, margin=0.5, **weights)
    torch.manual_seed(7)
    z, labels = learner.draw(8)
    torch.manual_seed(7)
    losses = {name: value.detach() for name, value in learner(batch).items()}
    assert list(losses) == ["ce", "triplet", "replay", "replay_triplet", "features", "elastic"]
    torch.testing.assert_close(z.norm(dim=1), torch.ones(8))
    assert set(labels.tolist()) == {0, 1}
    every = torch.cat([batch.labels, labels])
    logits = torch.cat([l_n, learner.network.head(z).detach()])
    torch.testing.assert_close(losses["replay"], 2 * cross_entropy(logits, every))
    torch.testing.assert_close(losses["replay_triplet"], 3 * triplet(torch.cat([z_n, z]), every, 0.5))
    torch.testing.assert_close(losses["features"], 4 * l2(z_o, z_n))
    torch.testing.assert_close(losses["elastic"], 5 * elastic(z_o, z_n, learner.feature_matrix, 0.02))
    assert losses["elastic"] > 0


def test_feature_replay_over_old_logits_trains_the_old_rows_alone(tmp_path: Path) -> None:
    learner, batch, _ = past("feature_replay", tmp_path, over="old")
    torch.manual_seed(7)
    z, labels = learner.draw(8)
    torch.manual_seed(7)
    losses = learner(batch)
    learner.zero_grad()
    torch.testing.assert_close(losses["replay"], cross_entropy(learner.network.head(z)[:, :2], labels))
    losses["replay"].backward()
    gradient = learner.network.head.weight.grad
    assert gradient is not None
    assert (gradient[2:] == 0).all()
    assert (gradient[:2] != 0).any()
    assert all(parameter.grad is None for parameter in learner.network.embedder.parameters())


def test_feature_replay_as_in_pass(tmp_path: Path) -> None:
    """Replayed vectors alone, over the outputs of all classes; the radius is that of the first session's classes."""
    learner, batch, _ = past("feature_replay", tmp_path, over="pass", replay=10.0)
    torch.manual_seed(7)
    z, labels = learner.draw(8)
    torch.manual_seed(7)
    losses = learner(batch)
    logits = learner.network.head(z)
    assert logits.shape == (8, 4)
    torch.testing.assert_close(losses["replay"], 10 * cross_entropy(logits, labels))
    learner.zero_grad()
    losses["replay"].backward()
    assert all(parameter.grad is None for parameter in learner.network.embedder.parameters())
    radius = learner.memory.radius.clone()
    assert radius > 0
    learner.end(tiny.session(tmp_path, 1, 2), lambda: iter([batch]))
    assert learner.memory.known.tolist() == [0, 1, 2, 3]
    assert torch.equal(learner.memory.radius, radius)
    other, batch, _ = past("feature_replay", tmp_path, over="all")
    other.end(tiny.session(tmp_path, 1, 2), lambda: iter([batch]))
    assert not torch.equal(other.memory.radius, radius)


def test_feature_replay_draws_its_gaussian(tmp_path: Path) -> None:
    for options in ({"mode": "prototypes"}, {"mode": "gaussian"}, {"mode": "gaussian", "covariance": "shared"}):
        learner, _, _ = past("feature_replay", tmp_path, shrinkage=0.0, **options)
        memory, d = learner.memory, 8
        assert memory is not None
        memory.means.mul_(1000)  # far out, unit norm is a projection to the plane across the mean
        z, labels = learner.draw(40_000)
        for label in (0, 1):
            mean = memory.means[label]
            length, axis = mean.norm(), normalize(mean, dim=0)
            across = torch.eye(d) - axis[:, None] * axis
            if options["mode"] == "prototypes":
                full = memory.radius**2 * torch.eye(d)
            else:
                full = memory.covariance if "covariance" in options else memory.covariance[label]
            found = torch.cov(z[labels == label].double().T * length).float()
            expected = across @ full @ across
            torch.testing.assert_close(found, expected, rtol=0, atol=0.05 * float(full.diagonal().max()))


def test_feature_replay_draws_stored_vectors_as_they_are(tmp_path: Path) -> None:
    learner, _, _ = past("feature_replay", tmp_path, mode="vectors", budget=2)
    memory = learner.memory
    assert memory is not None
    assert memory.labels.tolist() == [0, 0, 1, 1]
    z, labels = learner.draw(50)
    for vector, label in zip(z, labels, strict=True):
        assert (memory.vectors[memory.labels == label] == vector).all(1).any()


def test_roots_give_the_shrunk_covariance() -> None:
    A = draw(2, 5, 5)
    covariance = A @ A.transpose(1, 2)
    for gamma in (0.0, 0.3, 1.0):
        root = roots(covariance, gamma)
        level = covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        expected = (1 - gamma) * covariance + gamma * level * torch.eye(5, dtype=torch.float64)
        torch.testing.assert_close(root @ root.transpose(1, 2), expected, rtol=1e-4, atol=1e-4)
    flat = roots(torch.zeros(3, 3), 0.0)
    assert torch.isfinite(flat).all()
    assert flat.abs().max() < 1e-5


def test_a_covariance_of_few_images_has_a_root_without_shrinkage() -> None:
    """Stored as float32, a covariance of low rank has eigenvalues a little below 0: Cholesky alone would refuse it."""
    few = draw(1, 512, seed=5)
    covariance = (few.T @ few).float()
    root = roots(covariance[None], 0.0)[0]
    torch.testing.assert_close(root @ root.T, covariance, rtol=0, atol=1e-4 * float(covariance.trace()))


def test_the_feature_matrix_is_that_of_the_sessions_images(tmp_path: Path) -> None:
    first, _ = tiny.two_sessions(tmp_path)
    learner = tiny.learner("feature_replay", elastic=1.0)
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    with torch.no_grad():
        _, logits = learner.network(tiny.batch(first.train).images)
    head = learner.network.head
    torch.testing.assert_close(learner.feature_matrix, feature_matrix(logits, head.scale * head.weight.detach()))


def test_a_method_without_a_memory_of_the_old_classes_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner("feature_replay")
    learner.begin(second)
    assert "2 of the old classes have no stored statistics" in caplog.text
    assert list(learner(tiny.batch(second.train))) == ["ce", "triplet", "features"]


@pytest.mark.parametrize("kind", ["sdc", "ldc", "ridge", "adc"])
@pytest.mark.parametrize("name", ["finetune", "ewc", "lwf"])
def test_any_method_keeps_means_and_moves_them(name: str, kind: str, tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner(name, drift=kind)
    assert learner.memory is not None
    keys = list(learner.state_dict())
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    before = learner.memory.means.clone()
    with torch.no_grad():
        z, _ = learner.network(tiny.batch(first.train).images)
    for label in (0, 1):
        torch.testing.assert_close(before[label], z[tiny.batch(first.train).labels == label].mean(0))
    learn(learner, second, tiny.loader(second.train), tiny.TRAINING, 0)
    assert list(learner.state_dict()) == keys
    after, images = learner.memory.means, tiny.batch(second.train).images
    with torch.no_grad():
        z_o, z_n = learner.teacher(images)[0], learner.network(images)[0]
    assert not torch.equal(after[:2], before)
    assert torch.isfinite(after).all()
    torch.testing.assert_close(after[2], z_n[:4].mean(0))
    if kind == "sdc":
        torch.testing.assert_close(after[:2], before + drift(z_o, z_n, before))


def test_without_drift_nothing_is_kept() -> None:
    learner = tiny.learner("finetune")
    assert learner.memory is None
    assert not any(key.startswith("memory") for key in learner.state_dict())
    assert not learner.uses_teacher


def test_the_memory_is_in_the_generation(tmp_path: Path) -> None:
    first, _ = tiny.two_sessions(tmp_path)
    learner = tiny.learner("feature_replay", mode="gaussian")
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    line = Lineage(tmp_path / "line")
    line.add(learner, tiny.record(first.classes))
    fresh = tiny.learner("feature_replay", mode="gaussian")
    line.restore(line.get("g0"), fresh)
    assert learner.memory is not None
    assert fresh.memory is not None
    assert tiny.same(tiny.weights(fresh.memory), tiny.weights(learner.memory))
    assert fresh.memory.nbytes == 2 * (8 * 4 + 8) + 2 * 8 * 8 * 4


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("feature_replay", {"mode": mode}) for mode in MODES),
        ("cvs", {}),
        ("projection", {"form": "mlp"}),
        ("projection", {"form": "orthogonal"}),
        ("finetune", {"drift": "adc"}),
    ],
)
def test_resumes_to_the_bit_with_a_memory(name: str, options: dict[str, object], tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    kind = method(name)

    class Cut(kind):  # type: ignore[valid-type, misc]
        calls = 0

        def loss(self, batch: Batch) -> Losses:
            Cut.calls += 1
            if Cut.calls == 2:
                os.kill(os.getpid(), signal.SIGINT)
            losses: Losses = super().loss(batch)
            return losses

    def start(of: type[Method]) -> Method:
        learner = tiny.learner(of, **options)
        learner.load_state_dict(before)
        return learner

    once = tiny.learner(name, **options)
    learn(once, first, tiny.loader(first.train), tiny.TRAINING, 0)
    if once.uses_teacher:
        once.teacher.load_state_dict(once.network.state_dict())
    before = tiny.weights(once)
    whole = start(kind)
    expected = learn(whole, second, tiny.loader(second.train), tiny.TRAINING, 0)
    checkpoint = tmp_path / "cut.safetensors"
    with pytest.raises(KeyboardInterrupt):
        learn(start(Cut), second, tiny.loader(second.train), tiny.TRAINING, 0, checkpoint)
    resumed = start(kind)
    found = learn(resumed, second, tiny.loader(second.train), tiny.TRAINING, 0, checkpoint)
    assert found.curves == expected.curves
    assert tiny.same(tiny.weights(resumed), tiny.weights(whole))


def test_cvs_is_the_sum_of_its_terms(tmp_path: Path) -> None:
    learner, batch, (z_o, _, z_n, _) = past("cvs", tmp_path, alpha=2.0, beta=3.0, model_margin=0.7, budget=2)
    memory = learner.memory
    assert memory is not None
    assert memory.labels.tolist() == [0, 0, 1, 1]
    losses = learner(batch)
    assert list(losses) == ["ce", "triplet", "model", "data"]
    expected = model_coherence(z_o, z_n, batch.labels, memory.vectors, 0.7)
    torch.testing.assert_close(losses["model"].detach(), 2 * expected)
    torch.testing.assert_close(losses["data"].detach(), 3 * data_coherence(z_o, z_n, batch.labels))


def test_cvs_leaves_the_stored_gallery_where_it_was(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner("cvs")
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    assert learner.memory is not None
    before = learner.memory.vectors.clone()
    learn(learner, second, tiny.loader(second.train), tiny.TRAINING, 0)
    assert torch.equal(learner.memory.vectors[: len(before)], before)
    assert learner.memory.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4


Y = torch.tensor([0, 1, 0, 2])
Z_O, Z_N, STORED = unit(4, 3, seed=1), unit(4, 3, seed=2), unit(5, 3, seed=3)


@pytest.mark.parametrize("stored", [STORED, STORED[:0]])
def test_model_coherence_by_loops(stored: Tensor) -> None:
    total = 0.0
    for i in range(4):
        others = [Z_O[j].tolist() for j in range(4) if Y[j] != Y[i]] + stored.tolist()
        nearest = min(math.dist(Z_N[i].tolist(), v) for v in others)
        total += max(0.0, math.dist(Z_N[i].tolist(), Z_O[i].tolist()) - nearest + 0.3)
    assert float(model_coherence(Z_O, Z_N, Y, stored, 0.3)) == pytest.approx(total / 4)
    assert total > 0


def test_data_coherence_by_loops() -> None:
    total = 0.0
    for i in range(4):
        own = [Z_O[j].tolist() for j in range(4) if Y[j] == Y[i]]
        centre = [sum(row[k] for row in own) / len(own) for k in range(3)]
        total += math.dist(Z_N[i].tolist(), centre) ** 2
    assert float(data_coherence(Z_O, Z_N, Y)) == pytest.approx(total / 4)


def test_coherences_have_their_gradients_and_degenerate_points() -> None:
    z = Z_N.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z_n: model_coherence(Z_O, z_n, Y, STORED, 0.3), (z,))
    assert torch.autograd.gradcheck(lambda z_n: data_coherence(Z_O, z_n, Y), (z,))
    one = torch.zeros(4, dtype=torch.int64)
    still = Z_O.clone().requires_grad_()
    loss = model_coherence(Z_O, still, one, STORED[:0])
    loss.backward()
    assert loss == 0, "one class and nothing stored: no negative"
    model_coherence(Z_O, still, Y, STORED, 2.0).backward()
    assert still.grad is not None
    assert torch.isfinite(still.grad).all()
    for size in (0, 1):
        few = Z_N[:size], Y[:size]
        assert model_coherence(Z_O[:size], *few, STORED[:0]) == 0
        torch.testing.assert_close(data_coherence(Z_O[:size], *few), l2(Z_O[:size], few[0]))
    for loss_of in (lambda *z: model_coherence(*z, Y, STORED, 0.3), lambda *z: data_coherence(*z, Y)):
        narrow = loss_of(Z_O.half(), Z_N.half())
        assert narrow.dtype == torch.float32
        assert float(narrow) == pytest.approx(float(loss_of(Z_O, Z_N)), rel=1e-2)
