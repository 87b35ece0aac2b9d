"""Any metric loss composes with any method."""

from __future__ import annotations

import pytest
import torch

import tiny
from scrubjay import plugins
from scrubjay.components.metric import Metric, names
from scrubjay.methods import Method
from scrubjay.types import Batch, Session

PEERS = ("SubCenterArcFaceLoss", "ProxyNCALoss", "CircleLoss", "TripletMarginLoss")
METRICS = ("none", *names(), *(f"pml:{name}" for name in PEERS))
Sessions = tuple[Session, Session]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Sessions:
    return tiny.two_sessions(tmp_path_factory.mktemp("photos"))


def shown(learner: Method, sessions: Sessions, index: int) -> Batch:
    old = sessions[0].train if index and learner.needs_old_images else ()
    return tiny.batch([*old, *sessions[index].train])


@pytest.mark.parametrize("name", plugins.names("methods"))
def test_every_metric_loss_works_with_the_method(name: str, sessions: Sessions) -> None:
    learner = tiny.learner(name)
    second = shown(learner, sessions, 1)
    learner.begin(sessions[0])
    learner.eval()
    learner.end(sessions[0], tiny.session_images(learner, sessions[0].train))
    plain = learner.options
    for metric in METRICS:
        torch.manual_seed(0)
        learner.options = plain.model_copy(update={"metric": metric, "metric_weight": 0.5})
        learner.metric = Metric(learner.options, learner.network.options.dim)
        learner.begin(sessions[1])
        learner.train()
        losses = learner(second)
        assert all(torch.isfinite(value) for value in losses.values()), (metric, losses)
        assert "none" not in losses
        assert metric == "none" or metric.removeprefix("pml:") in losses
        trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
        if not trained:
            continue
        term = losses["ce" if metric == "none" else metric.removeprefix("pml:")]
        gradients = torch.autograd.grad(term, trained, allow_unused=True)
        there = [gradient for gradient in gradients if gradient is not None]
        assert all(torch.isfinite(gradient).all() for gradient in there), metric
        assert any(gradient.abs().sum() > 0 for gradient in there), metric


def test_the_metric_loss_counts_as_often_as_it_is_weighed(sessions: Sessions) -> None:
    found = {}
    for weight in (1.0, 0.25):
        learner = tiny.learner("finetune", metric="contrastive", metric_weight=weight).eval()
        torch.manual_seed(0)
        learner.begin(sessions[0])
        learner.begin(sessions[1])
        with torch.no_grad():
            found[weight] = learner(tiny.batch(sessions[1].train))
    assert found[1.0]["contrastive"] > 0
    torch.testing.assert_close(found[0.25]["contrastive"], 0.25 * found[1.0]["contrastive"])
    assert torch.equal(found[0.25]["ce"], found[1.0]["ce"])
