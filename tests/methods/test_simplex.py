from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import tiny
from scrubjay.errors import ConfigError
from scrubjay.generations.lineage import Lineage
from scrubjay.losses.info_nce import info_nce
from scrubjay.losses.metric.triplet import triplet
from scrubjay.losses.simplex import simplex
from scrubjay.training import learn

DIM = tiny.NETWORK.dim


@pytest.mark.parametrize(("capacity", "scale"), [(None, None), (5, 3.0)])
def test_the_cross_entropy_is_over_all_places(capacity: int | None, scale: float | None, tmp_path: Path) -> None:
    learner = tiny.learner("simplex", capacity=capacity, scale=scale).eval()
    vertices, s = simplex(DIM), scale or tiny.NETWORK.logit_scale
    for session in tiny.two_sessions(tmp_path):
        learner.begin(session)
        batch = tiny.batch(session.train)
        losses = learner(batch)
        assert list(losses) == ["ce", "triplet"]
        with torch.no_grad():
            z, _ = learner.network(batch.images)
        expected = 0.0
        for i, label in enumerate(batch.labels.tolist()):
            scores = [math.exp(s * float(z[i] @ vertices[k])) for k in range(capacity or DIM + 1)]
            expected -= math.log(scores[label] / sum(scores)) / len(z)
        assert math.isclose(float(losses["ce"].detach()), expected, rel_tol=1e-4)
        torch.testing.assert_close(losses["triplet"].detach(), triplet(z, batch.labels, 0.2, "hard"))


def test_hoc_adds_the_contrast_with_the_old_embeddings(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner("simplex", ce_share=0.1, contrast_scale=7.0).eval()
    cores = tiny.learner("simplex").eval()
    learner.begin(first)
    assert list(learner(tiny.batch(first.train))) == ["ce", "triplet"]
    learner.begin(second)
    cores.begin(first)
    cores.begin(second)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in learner.network.embedder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    cores.network.load_state_dict(learner.network.state_dict())
    batch = tiny.batch(second.train)
    losses, alone = learner(batch), cores(batch)
    with torch.no_grad():
        z_o, z_n = learner.teacher(batch.images)[0], learner.network(batch.images)[0]
    assert list(losses) == ["ce", "triplet", "contrast"]
    torch.testing.assert_close(losses["ce"], 0.1 * alone["ce"])
    torch.testing.assert_close(losses["triplet"], alone["triplet"])
    torch.testing.assert_close(losses["contrast"].detach(), 0.9 * info_nce(z_o, z_n, batch.labels, 7.0))
    assert list(alone) == ["ce", "triplet"]


def test_a_teacher_is_kept_only_for_the_contrast() -> None:
    assert not tiny.learner("simplex").uses_teacher
    assert tiny.learner("simplex", ce_share=0.1).uses_teacher
    assert tiny.learner("simplex", average=0.5).uses_teacher


@pytest.mark.parametrize("ce_share", [1.0, 0.1])
def test_the_head_is_the_vertices_and_stays(ce_share: float, tmp_path: Path) -> None:
    learner = tiny.learner("simplex", ce_share=ce_share)
    line = Lineage(tmp_path / "line")
    for session in tiny.two_sessions(tmp_path):
        before = tiny.weights(learner.network.embedder)
        learn(learner, session, tiny.loader(session.train), tiny.TRAINING, 0)
        head = learner.network.head
        assert torch.equal(head.weight, simplex(DIM)[: session.labels.stop])
        assert not head.bias.any()
        assert not any(parameter.requires_grad for parameter in head.parameters())
        assert not tiny.same(tiny.weights(learner.network.embedder), before)
        generation = line.add(learner, tiny.record(session.classes))
        assert not (generation.folder / "method.safetensors").exists(), "nothing but the network is kept"
        stored = line.network(generation)
        batch = tiny.batch(session.train)
        with torch.no_grad():
            for found, own in zip(stored(batch.images), learner.network.eval()(batch.images), strict=True):
                assert torch.equal(found, own)


def test_a_class_has_its_place_by_its_label_whatever_came_before(tmp_path: Path) -> None:
    learner = tiny.learner("simplex")
    learner.begin(tiny.session(tmp_path, 3, 5, classes=2))
    assert torch.equal(learner.network.head.weight[5:7], simplex(DIM)[5:7])


def test_a_head_learned_otherwise_is_put_in_its_places(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    other = tiny.learner("finetune")
    other.begin(first)
    learner = tiny.learner("simplex")
    learner.network.load_state_dict(other.network.state_dict())
    learner.begin(second)
    assert torch.equal(learner.network.head.weight, simplex(DIM)[:4])


def test_more_classes_than_places_are_refused(tmp_path: Path) -> None:
    learner = tiny.learner("simplex", capacity=3)
    first, second = tiny.two_sessions(tmp_path)
    learner.begin(first)
    with pytest.raises(ConfigError, match=r"capacity = 3: session 2 makes 4 classes; .* of 4 or more") as no:
        learner.begin(second)
    assert "\n" not in str(no.value)
    assert learner.network.head.classes == 2
    tiny.learner("simplex").begin(tiny.session(tmp_path, 0, 0, classes=DIM + 1, each=1))
    with pytest.raises(ConfigError, match=rf"capacity = {DIM + 1}: session 1 makes {DIM + 2} classes"):
        tiny.learner("simplex").begin(tiny.session(tmp_path, 0, 0, classes=DIM + 2, each=1))


def test_more_places_than_dimensions_give_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"capacity = 12: 8 dimensions have room for 9 classes; .*dim to 11"):
        tiny.learner("simplex", capacity=12)
