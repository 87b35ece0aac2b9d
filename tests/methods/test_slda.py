"""The closed-form metric as a method: order, equality with all images at once, alignment."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from scrubjay.errors import ConfigError, DataError
from scrubjay.methods import Method
from scrubjay.methods.slda import SLDA
from scrubjay.models.embedder import NetworkOptions
from scrubjay.training import learn
from scrubjay.types import Sample, Session

NETWORK = NetworkOptions(backbone="test_resnet", pretrained=False, dim=16, features="stages")
FIXED = {"prior": 1000.0, "residual": 0.03, "target": "diagonal"}


def taught(sessions: list[Session], **options: object) -> SLDA:
    learner = tiny.learner("slda", NETWORK, **options)
    for session in sessions:
        learn(learner, session, tiny.loader(session.train), tiny.TRAINING, 0)
    assert isinstance(learner, SLDA)
    return learner


def embedded(learner: Method, samples: list[Sample]) -> torch.Tensor:
    with torch.no_grad():
        return learner.network.eval().embedder(tiny.batch(samples).images).double()


def three_sessions(root: Path) -> list[Session]:
    return [tiny.session(root, index, 2 * index) for index in range(3)]


def test_the_last_solution_is_that_of_all_images_at_once(tmp_path: Path) -> None:
    sessions = three_sessions(tmp_path)
    samples = [sample for session in sessions for sample in session.train]
    names = tuple(name for session in sessions for name in session.classes)
    in_sessions = embedded(taught(sessions, **FIXED), samples)
    at_once = embedded(taught([Session(0, names, 0, tuple(samples))], **FIXED), samples)
    torch.testing.assert_close(in_sessions @ in_sessions.T, at_once @ at_once.T, rtol=0, atol=1e-5)


def test_the_order_of_sessions_does_not_matter(tmp_path: Path) -> None:
    sessions = three_sessions(tmp_path)
    samples = [sample for session in sessions for sample in session.train]
    backwards = []
    for index, session in enumerate(reversed(sessions)):
        train = tuple(Sample(sample.path, 2 * index + sample.label % 2) for sample in session.train)
        backwards.append(Session(index, session.classes, 2 * index, train))
    forwards, turned = embedded(taught(sessions, **FIXED), samples), embedded(taught(backwards, **FIXED), samples)
    torch.testing.assert_close(forwards @ forwards.T, turned @ turned.T, rtol=0, atol=1e-5)


def test_a_new_generation_embeds_old_images_where_they_were(tmp_path: Path) -> None:
    sessions = [tiny.session(tmp_path, 0, 0, classes=5), tiny.session(tmp_path, 1, 5, classes=4)]
    old = list(sessions[0].train)
    before = embedded(taught(sessions[:1], **FIXED), old)
    after = embedded(taught(sessions, **FIXED), old)
    turned = embedded(taught(sessions, align=False, **FIXED), old)
    assert (before * after).sum(1).mean() > (before * turned).sum(1).mean() + 0.05
    torch.testing.assert_close(after @ after.T, turned @ turned.T, rtol=0, atol=1e-5)


def test_the_head_finds_the_nearest_class_mean(tmp_path: Path) -> None:
    sessions = three_sessions(tmp_path)
    learner = taught(sessions, **FIXED)
    samples = [sample for session in sessions for sample in session.train]
    with torch.no_grad():
        _, logits = learner.network.eval()(tiny.batch(samples).images)
    assert logits.argmax(1).tolist() == [sample.label for sample in samples]


def test_the_settings_are_chosen_in_the_first_session_and_stay(tmp_path: Path) -> None:
    sessions = three_sessions(tmp_path)
    first = taught(sessions[:1]).settings
    assert torch.isfinite(first).all()
    assert torch.equal(taught(sessions).settings, first)
    assert taught(sessions[:1], **FIXED).settings.tolist() == [1000.0, 0.03, 0.0]


def test_trains_no_parameter(tmp_path: Path) -> None:
    sessions = three_sessions(tmp_path)
    fresh = tiny.weights(tiny.learner("slda", NETWORK).network.embedder.backbone)
    assert tiny.same(tiny.weights(taught(sessions).network.embedder.backbone), fresh)


def test_single_images_and_two_classes(tmp_path: Path) -> None:
    session = tiny.session(tmp_path, 0, 0, each=1)
    assert torch.isfinite(embedded(taught([session]), list(session.train))).all()


def test_refuses_a_single_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two classes"):
        taught([tiny.session(tmp_path, 0, 0, classes=1)])


def test_refuses_to_go_on_where_no_statistics_were_kept(tmp_path: Path) -> None:
    sessions = three_sessions(tmp_path)
    with pytest.raises(ConfigError, match="2 classes were learned by a method that keeps no statistics"):
        taught(sessions[1:])


@pytest.mark.parametrize("adapt", ["first", "auto"])
def test_the_first_session_may_train_the_trunk(adapt: str, tmp_path: Path) -> None:
    sessions = [tiny.session(tmp_path, 0, 0, classes=4), tiny.session(tmp_path, 1, 4)]
    learner = tiny.learner("slda", NETWORK, adapt=adapt)
    untouched = tiny.weights(learner.network.embedder.backbone)
    trained = learn(learner, sessions[0], tiny.loader(sessions[0].train), tiny.TRAINING, 0)
    assert set(trained.curves) == {"ce", "triplet"}
    after_first = tiny.weights(learner.network.embedder.backbone)
    assert adapt == "auto" or not tiny.same(after_first, untouched)
    second = learn(learner, sessions[1], tiny.loader(sessions[1].train), tiny.TRAINING, 0)
    assert second.curves == {}
    assert tiny.same(tiny.weights(learner.network.embedder.backbone), after_first)


def test_the_better_trunk_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = tiny.session(tmp_path, 0, 0, classes=4)
    for better in (True, False):
        learner = tiny.learner("slda", NETWORK, adapt="auto")
        untouched = tiny.weights(learner.network.embedder.backbone)
        scores = iter([0.6, 0.5] if better else [0.5, 0.6])
        monkeypatch.setattr(type(learner), "_precision_of_held_out", lambda *_, scores=scores: next(scores))
        learn(learner, session, tiny.loader(session.train), tiny.TRAINING, 0)
        assert tiny.same(tiny.weights(learner.network.embedder.backbone), untouched) is not better
