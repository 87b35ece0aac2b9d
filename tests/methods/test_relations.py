"""fecd, affinity and bct: their terms are exactly their formulas."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
from scrubjay.errors import ConfigError
from scrubjay.losses.affinity import affinity
from scrubjay.losses.fecd import fecd
from scrubjay.methods import Method
from scrubjay.methods.affinity import AffinityOptions
from scrubjay.methods.fecd import FECD, FECDOptions, rescaled
from scrubjay.types import Batch


def later(name: str, root: Path, sessions: int = 2, **options: object) -> tuple[Method, Batch]:
    """A method in its last session, the network shaken, and a batch of that session."""
    learner = tiny.learner(name, **options).eval()
    each = [tiny.session(root, index, 2 * index) for index in range(sessions)]
    for session in each:
        learner.begin(session)
        torch.manual_seed(session.index)
        with torch.no_grad():
            for parameter in learner.network.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return learner, tiny.batch(each[-1].train)


def softmax(scores: list[float]) -> list[float]:
    total = sum(math.exp(score) for score in scores)
    return [math.exp(score) / total for score in scores]


def embeddings(learner: Method, batch: Batch) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return learner.teacher(batch.images)[0], learner.network(batch.images)[0]


def test_bct_is_the_old_head_on_both_embeddings(tmp_path: Path) -> None:
    learner, batch = later("bct", tmp_path, weight=0.6, temperature=2.0)
    z_o, z_n = embeddings(learner, batch)
    head, scale = learner.teacher.head, learner.network.options.logit_scale
    assert head.classes == 2
    expected = 0.0
    for i in range(len(z_o)):
        rows = [
            softmax([scale * float(head.weight[k] @ z[i] + head.bias[k]) / 2.0 for k in range(2)]) for z in (z_o, z_n)
        ]
        expected -= sum(p * math.log(q) for p, q in zip(*rows, strict=True)) / len(z_o)
    losses = learner(batch)
    assert list(losses) == ["ce", "triplet", "bct"]
    assert math.isclose(float(losses["bct"].detach()), 0.6 * expected, rel_tol=1e-4)
    losses["bct"].backward()
    assert learner.network.head.weight.grad is None, "the head may not come to meet the embeddings"
    assert all(parameter.grad is None for parameter in learner.teacher.parameters())
    gradient = learner.network.embedder.projection.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_affinity_is_its_loss_and_averages_by_default(tmp_path: Path) -> None:
    learner, batch = later("affinity", tmp_path, weight=0.5, temperature=0.05)
    z_o, z_n = embeddings(learner, batch)
    losses = learner(batch)
    assert list(losses) == ["ce", "triplet", "affinity"]
    assert losses["affinity"] > 1e-3
    torch.testing.assert_close(losses["affinity"].detach(), 0.5 * affinity(z_o, z_n, batch.labels, 0.05))
    assert AffinityOptions().average == "lstkc"
    assert AffinityOptions.parse({"average": 0.5}).average == 0.5
    with pytest.raises(ConfigError, match="average"):
        AffinityOptions.parse({"average": 0})


def test_affinity_lies_between_old_and_new_after_a_session(tmp_path: Path) -> None:
    learner, batch = later("affinity", tmp_path)
    new, old = tiny.weights(learner.network), tiny.weights(learner.teacher)
    learner.end(tiny.session(tmp_path, 1, 2), lambda: iter([batch]))
    name = "embedder.projection.weight"
    found = learner.network.state_dict()[name]
    assert not torch.equal(found, new[name])
    share = (found - old[name]).norm() / (new[name] - old[name]).norm()
    assert 0 <= share < 1


def test_fecd_is_its_loss(tmp_path: Path) -> None:
    for estimated in (False, True):
        learner, batch = later("fecd", tmp_path, weight=3.0, temperature=2.0, estimated=estimated)
        z_o, z_n = embeddings(learner, batch)
        losses = learner(batch)
        assert list(losses) == ["ce", "triplet", "fecd"], "the teacher of the second session is the first model"
        assert losses["fecd"] > 1e-6
        torch.testing.assert_close(losses["fecd"].detach(), 3.0 * fecd(z_o, z_n, 2.0), rtol=1e-4, atol=0)


def test_fecd_estimates_every_model_before_the_teacher(tmp_path: Path) -> None:
    learner, batch = later("fecd", tmp_path, sessions=4, weight=3.0, temperature=2.0, estimated=True)
    z_o, z_n = embeddings(learner, batch)
    torch.manual_seed(7)
    losses = learner(batch)
    assert list(losses) == ["ce", "triplet", "fecd", "fecd_estimated"]
    torch.manual_seed(7)
    low, high = FECDOptions().rescaling
    expected, z = 0.0, z_o
    for _ in range(2):
        z = z + (low + (high - low) * torch.rand(z.shape)) * z
        expected += 3.0 * float(fecd(z, z_n, 2.0))
    assert math.isclose(float(losses["fecd_estimated"].detach()), expected, rel_tol=1e-4)
    assert losses["fecd"] != losses["fecd_estimated"]


def test_fecd_counts_models_by_the_session_not_by_what_it_saw(tmp_path: Path) -> None:
    fresh = tiny.learner("fecd", estimated=True)
    assert isinstance(fresh, FECD)
    for index, older in ((0, 0), (1, 0), (2, 1), (3, 2)):
        fresh.begin(tiny.session(tmp_path, index, 2 * index))
        assert fresh.older == older


def test_rescaling_multiplies_each_coordinate_by_one_plus_r() -> None:
    z = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    ratio = rescaled(z, -0.1, 0.3) / z
    assert ratio.min() >= 0.9 - 1e-5
    assert ratio.max() <= 1.3 + 1e-5
    assert ratio.mean().item() == pytest.approx(1.1, abs=0.01)
    assert ratio.unique().numel() > 3000
    torch.testing.assert_close(rescaled(z, 0.0, 0.0), z)
    assert rescaled(z.half(), -0.1, 0.3).dtype == torch.half


def test_swapped_ends_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"rescaling = \(0\.2, 0\.1\) has its ends swapped"):
        FECDOptions.parse({"rescaling": (0.2, 0.1)})


@pytest.mark.parametrize(("name", "term"), [("fecd", "fecd"), ("affinity", "affinity")])
def test_nothing_pulls_where_network_and_teacher_agree(name: str, term: str, tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner(name).eval()
    learner.begin(first)
    learner.begin(second)
    batch = tiny.batch(second.train)
    value = learner(Batch(batch.images, batch.labels, batch.indices))[term]
    if name == "fecd":
        assert math.isclose(float(value.detach()), 0, abs_tol=1e-5)
    assert value >= -1e-6
