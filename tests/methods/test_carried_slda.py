"""Statistics that are carried to a trunk that goes on training: equal to `slda` where it stands still, and the loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from scrubjay.errors import ConfigError
from scrubjay.methods import Method
from scrubjay.methods.carried_slda import CarriedSLDA
from scrubjay.models.embedder import NetworkOptions
from scrubjay.training import TrainingOptions, learn
from scrubjay.types import Sample, Session

NETWORK = NetworkOptions(backbone="test_resnet", pretrained=False, dim=16, features="stages")
FIXED = {"prior": 1000.0, "residual": 0.03, "target": "diagonal"}
STILL = tiny.TRAINING.model_copy(update={"epochs": 0, "freeze_batchnorm": "always"})


def taught(
    sessions: list[Session], name: str = "carried_slda", training: TrainingOptions = tiny.TRAINING, **options: object
) -> Method:
    learner = tiny.learner(name, NETWORK, **options)
    for session in sessions:
        learn(learner, session, tiny.loader(session.train), training, 0)
    return learner


def embedded(learner: Method, samples: list[Sample]) -> torch.Tensor:
    with torch.no_grad():
        return learner.network.eval().embedder(tiny.batch(samples).images).double()


def sessions_of(root: Path) -> list[Session]:
    return [tiny.session(root, 0, 0, classes=5), tiny.session(root, 1, 5, classes=4), tiny.session(root, 2, 9)]


def test_a_trunk_that_stands_still_gives_what_slda_gives(tmp_path: Path) -> None:
    sessions = sessions_of(tmp_path)
    samples = [sample for session in sessions for sample in session.train]
    carried, exact = (embedded(taught(sessions, name, STILL), samples) for name in ("carried_slda", "slda"))
    torch.testing.assert_close(carried @ carried.T, exact @ exact.T, rtol=0, atol=1e-4)


def test_the_settings_are_those_of_the_untouched_trunk(tmp_path: Path) -> None:
    sessions = sessions_of(tmp_path)
    settings = taught(sessions[:1], "slda").state_dict()["settings"]
    assert torch.equal(taught(sessions[:1]).state_dict()["settings"], settings)
    assert torch.equal(taught(sessions[:2]).state_dict()["settings"], settings)


def test_every_session_trains_the_trunk_and_keeps_all_classes(tmp_path: Path) -> None:
    sessions = sessions_of(tmp_path)
    one, two = taught(sessions[:1]), taught(sessions)
    assert not tiny.same(tiny.weights(one.network.embedder.backbone), tiny.weights(two.network.embedder.backbone))
    assert isinstance(two, CarriedSLDA)
    carried = two.carried.get("")
    assert carried.labels.tolist() == list(range(11))
    assert carried.counts.tolist() == [4 * 5] * 11
    assert bool((torch.linalg.eigvalsh(carried.scatter) > -1e-6 * carried.scatter.diagonal().max()).all())
    assert two.statistics is None, "nothing is stored by session, since the next session changes it"


def test_a_new_generation_embeds_old_images_where_they_were(tmp_path: Path) -> None:
    sessions = sessions_of(tmp_path)[:2]
    old = list(sessions[0].train)
    before = embedded(taught(sessions[:1], **FIXED), old)
    after = embedded(taught(sessions, **FIXED), old)
    turned = embedded(taught(sessions, align=False, **FIXED), old)
    assert (before * after).sum(1).mean() > (before * turned).sum(1).mean() + 0.05
    torch.testing.assert_close(after @ after.T, turned @ turned.T, rtol=0, atol=1e-5)


def test_features_are_kept_where_the_trunk_before_had_them(tmp_path: Path) -> None:
    sessions = sessions_of(tmp_path)
    learner = taught(sessions[:1], weight=0.5)
    assert isinstance(learner, CarriedSLDA)
    before = learner.network.eval().embedder.features(tiny.batch(sessions[1].train).images).detach()
    deviations = learner.carried.get("").deviations
    learner.begin(sessions[1])
    learner.eval()
    batch = tiny.batch(sessions[1].train)
    assert float(learner(batch)["l2"].detach()) < 1e-9
    with torch.no_grad():
        for parameter in learner.network.embedder.backbone.parameters():
            parameter.add_(0.02)
    after = learner.network.embedder.features(batch.images).detach()
    expected = 0.0
    for old, new in zip(before, after, strict=True):
        moves = ((float(b) - float(a)) / float(s) for a, b, s in zip(old, new, deviations, strict=True))
        expected += sum(move**2 for move in moves)
    losses = learner(batch)
    assert list(losses) == ["ce", "triplet", "l2"]
    torch.testing.assert_close(float(losses["l2"].detach()), 0.5 * expected / before.numel(), rtol=1e-3, atol=0)


def test_refuses_to_go_on_where_no_statistics_were_kept(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="5 classes were learned by a method that keeps no statistics"):
        taught(sessions_of(tmp_path)[1:])
