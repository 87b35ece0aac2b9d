"""One suite that every method passes: each file there is, now and later."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import signal
from pathlib import Path

import pytest
import torch

import tiny
from scrubjay import plugins
from scrubjay.components.accumulation import Accumulation
from scrubjay.components.trained_trunk import TrainedTrunk
from scrubjay.errors import ConfigError
from scrubjay.generations.lineage import Lineage
from scrubjay.losses.cross_entropy import cross_entropy
from scrubjay.losses.distillation import distillation
from scrubjay.losses.l2 import cosine, l2
from scrubjay.losses.metric.triplet import triplet
from scrubjay.losses.mmd import mmd
from scrubjay.methods import Method, method
from scrubjay.training import learn
from scrubjay.types import Batch, Losses, Sample, Session

every_method = pytest.mark.parametrize("name", plugins.names("methods"))
every_trained_method = pytest.mark.parametrize(
    "name", [name for name in plugins.names("methods") if not issubclass(method(name), Accumulation)]
)


def samples_for(learner: Method, before: Session, now: Session) -> list[Sample]:
    return [*before.train, *now.train] if learner.needs_old_images else list(now.train)


def learn_first(name: str, first: Session) -> Method:
    learner = tiny.learner(name)
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    return learner


def shaken(learner: Method) -> Method:
    """With a network that has left its teacher's place."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in learner.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return learner.eval()


@every_method
def test_learns_a_session_without_the_images_of_the_last(name: str, tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = learn_first(name, first)
    Lineage(tmp_path / "line").add(learner, tiny.record(first.classes))
    if not learner.needs_old_images:
        for sample in first.train:
            sample.path.unlink()

    later = tiny.learner(name)
    line = Lineage(tmp_path / "line")
    line.restore(line.get("g0"), later)
    learned = learn(later, second, tiny.loader(samples_for(later, first, second)), tiny.TRAINING, 0)

    assert learned.failures == ()
    with torch.no_grad():
        z, logits = later.network.eval()(tiny.batch(second.train).images)
    assert logits.shape == (8, 4)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(z.norm(dim=1), torch.ones(8))


@every_method
def test_the_first_session_trains_the_network(name: str, tmp_path: Path) -> None:
    first, _ = tiny.two_sessions(tmp_path)
    fresh = tiny.weights(tiny.learner(name).network.embedder)
    learner = learn_first(name, first)
    assert not tiny.same(fresh, tiny.weights(learner.network.embedder))


@pytest.mark.parametrize(
    "name", [name for name in plugins.names("methods") if not issubclass(method(name), TrainedTrunk)]
)
def test_growing_keeps_the_old_rows(name: str, tmp_path: Path) -> None:
    """But for methods that go on with a head that was trained, and not with that of the closed form."""
    first, second = tiny.two_sessions(tmp_path)
    learner = learn_first(name, first)
    head, images = tiny.weights(learner.network.head), tiny.batch(first.train).images
    with torch.no_grad():
        _, before = learner.network(images)
        learner.begin(second)
        learner.eval()
        _, after = learner.network(images)
    assert torch.equal(learner.network.head.weight[:2], head["weight"])
    assert torch.equal(learner.network.head.bias[:2], head["bias"])
    torch.testing.assert_close(after[:, :2], before)
    assert after.shape == (8, 4)


@every_method
def test_state_has_the_same_keys_from_construction_on(name: str, tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner(name)
    learner.network.freeze_batchnorm(True)  # a trunk whose features are accumulated does not change
    keys = list(learner.state_dict())
    for session, samples in ((first, first.train), (second, samples_for(learner, first, second))):
        learner.begin(session)
        assert list(learner.state_dict()) == keys
        total = learner(tiny.batch(samples)).total
        if total.requires_grad:
            total.backward()
        assert list(learner.state_dict()) == keys
        learner.end(session, tiny.session_images(learner, samples))
        assert list(learner.state_dict()) == keys


@every_method
@pytest.mark.parametrize("index", [0, 1])
def test_resumes_to_the_bit(name: str, index: int, tmp_path: Path) -> None:
    sessions = tiny.two_sessions(tmp_path)
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
        learner = tiny.learner(of)
        if index:
            learner.network.load_state_dict(before)
            if isinstance(learner, Accumulation):
                learner.load_state_dict(first.state_dict())
                learner.statistics = first.statistics
        return learner

    if index:
        first = learn_first(name, sessions[0])
        before = tiny.weights(first.network)
    whole = start(kind)
    loader = tiny.loader(samples_for(whole, sessions[0], sessions[1]) if index else sessions[0].train)
    expected = learn(whole, sessions[index], loader, tiny.TRAINING, 0)

    checkpoint = tmp_path / "cut.safetensors"
    try:
        learn(start(Cut), sessions[index], loader, tiny.TRAINING, 0, checkpoint)
    except KeyboardInterrupt:
        assert checkpoint.exists()
    else:
        assert expected.curves == {}, "an interrupted session ended as if it was whole"
    resumed = start(kind)
    found = learn(resumed, sessions[index], loader, tiny.TRAINING, 0, checkpoint)
    assert tiny.same(tiny.weights(resumed), tiny.weights(whole))
    assert found.curves == expected.curves


@every_trained_method
def test_terms_have_names_and_add_up(name: str, tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner(name)
    for session, samples in ((first, first.train), (second, samples_for(learner, first, second))):
        learner.begin(session)
        losses = learner(tiny.batch(samples))
        assert losses
        assert all(isinstance(term, str) and term for term in losses)
        assert all(value.shape == () and torch.isfinite(value) for value in losses.values())
        torch.testing.assert_close(losses.total, torch.stack(list(losses.values())).sum())


@every_trained_method
def test_the_first_session_is_the_same_for_all(name: str, tmp_path: Path) -> None:
    first, _ = tiny.two_sessions(tmp_path)
    learner = tiny.learner(name)
    learner.begin(first)
    learner.eval()
    batch = tiny.batch(first.train)
    losses = learner(batch)
    z, logits = learner.network(batch.images)
    same = {"ce": cross_entropy(logits, batch.labels), "triplet": triplet(z, batch.labels, 0.2, "hard")}
    if learner.own_start:
        assert "initial session" in (inspect.getdoc(importlib.import_module(type(learner).__module__)) or "")
        if losses.keys() != same.keys() or any(not torch.allclose(losses[term], same[term]) for term in same):
            return
    assert list(losses) == ["ce", "triplet"]
    for term, value in same.items():
        torch.testing.assert_close(losses[term], value)


@every_method
def test_the_teacher_is_the_last_network_and_stays(name: str, tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = learn_first(name, first)
    last = tiny.weights(learner.network)
    learn(learner, second, tiny.loader(samples_for(learner, first, second)), tiny.TRAINING, 0)
    if learner.uses_teacher:
        assert tiny.same(tiny.weights(learner.teacher), last)
        assert not any(parameter.requires_grad for parameter in learner.teacher.parameters())
    else:
        assert not hasattr(learner, "teacher")


@every_method
def test_says_whether_it_keeps_a_memory(name: str, tmp_path: Path) -> None:
    """Statistics that cannot be computed after the session; parts that every session trains from scratch are none."""
    first, _ = tiny.two_sessions(tmp_path)
    learner = learn_first(name, first)
    fresh = tiny.learner(name).state_dict()
    kept = {
        key
        for key, value in learner.state_dict().items()
        if not key.startswith(("network.", "teacher.", "metric.")) and not torch.equal(value, fresh[key])
    }
    assert (bool(kept) or isinstance(learner, Accumulation)) == learner.has_memory


@every_method
def test_documents_its_formula_and_options(name: str) -> None:
    kind = method(name)
    documentation = inspect.getdoc(importlib.import_module(kind.__module__)) or ""
    assert ("z = " if issubclass(kind, Accumulation) else "L = ") in documentation
    assert "eeps" in documentation or "stores" in documentation, "says what it keeps between sessions"
    assert plugins.summaries("methods")[name] == documentation.splitlines()[0]
    assert kind.__doc__
    assert all(field.description for field in kind.Options.model_fields.values())


@every_method
def test_refuses_options_that_it_does_not_have(name: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'marign'.*Did you mean 'margin'"):
        method(name).Options.parse({"marign": 0.1})


def past(name: str, tmp_path: Path, **options: object) -> tuple[Method, Batch, tuple[torch.Tensor, ...]]:
    """A method in its second session, a batch, and the embeddings and logits of teacher and network on it."""
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner(name, **options)
    learn(learner, first, tiny.loader(first.train), tiny.TRAINING, 0)
    learner.begin(second)
    shaken(learner)
    batch = tiny.batch(second.train)
    with torch.no_grad():
        return learner, batch, (*learner.teacher(batch.images), *learner.network(batch.images))


def test_lwf_is_distillation_over_the_old_classes(tmp_path: Path) -> None:
    learner, batch, (_, l_o, _, l_n) = past("lwf", tmp_path, alpha=0.7, temperature=3.0)
    losses = learner(batch)
    assert list(losses) == ["ce", "triplet", "dist"]
    assert l_o.shape == (8, 2)
    torch.testing.assert_close(losses["dist"].detach(), 0.7 * distillation(l_o, l_n[:, :2], 3.0))


@pytest.mark.parametrize(("form", "distance"), [("squared", l2), ("cosine", cosine)])
def test_l2_is_the_pairwise_distance(form: str, distance: object, tmp_path: Path) -> None:
    learner, batch, (z_o, _, z_n, _) = past("l2", tmp_path, weight=2.5, form=form)
    losses = learner(batch)
    assert list(losses) == ["ce", "triplet", "l2"]
    assert callable(distance)
    assert losses["l2"] > 1e-4
    torch.testing.assert_close(losses["l2"].detach(), 2.5 * distance(z_o, z_n))


@pytest.mark.parametrize("kernels", ["one", "five"])
def test_mmd_is_the_papers_sum(kernels: str, tmp_path: Path) -> None:
    options = {"sigma": 0.5, "kernels": kernels, "biased": False, "squared": True}
    learner, batch, (z_o, l_o, z_n, l_n) = past("mmd", tmp_path, alpha=0.5, beta=4.0, temperature=1.5, **options)
    losses = learner(batch)
    assert list(losses) == ["ce", "triplet", "dist", "mmd"]
    torch.testing.assert_close(losses["dist"].detach(), 0.5 * distillation(l_o, l_n[:, :2], 1.5))
    torch.testing.assert_close(losses["mmd"].detach(), 4.0 * mmd(z_o, z_n, **options))


def test_new_classes_compete_among_themselves_alone(tmp_path: Path) -> None:
    learner, batch, (_, _, z_n, l_n) = past("lwf", tmp_path, mining="semi-hard", margin=0.4)
    losses = learner(batch)
    torch.testing.assert_close(losses["ce"].detach(), cross_entropy(l_n[:, 2:], batch.labels - 2))
    torch.testing.assert_close(losses["triplet"].detach(), triplet(z_n, batch.labels, 0.4, "semi-hard"))
    losses["ce"].backward()
    gradient = learner.network.head.weight.grad
    assert gradient is not None
    assert (gradient[:2] == 0).all()
    assert (gradient[2:] != 0).any()


def test_joint_lets_all_classes_compete(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner("joint")
    learner.begin(first)
    learner.begin(second)
    learner.eval()
    batch = tiny.batch([*first.train, *second.train])
    _, logits = learner.network(batch.images)
    torch.testing.assert_close(learner(batch)["ce"], cross_entropy(logits, batch.labels, 0))


def test_nothing_pulls_where_network_and_teacher_agree(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    for name, term in (("l2", "l2"), ("mmd", "mmd")):
        learner = learn_first(name, first)
        learner.begin(second)
        learner.eval()
        assert math.isclose(float(learner(tiny.batch(second.train))[term].detach()), 0, abs_tol=1e-6)
