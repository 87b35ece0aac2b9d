"""Sessions of the methods that weigh parameters, and what they left: what their tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import tiny
from scrubjay.components.importance import names, trained
from scrubjay.methods import Method
from scrubjay.training import Learned, learn
from scrubjay.types import Session


def run(learner: Method, session: Session, **changes: Any) -> Learned:
    training = tiny.TRAINING.model_copy(update=changes)
    return learn(learner, session, tiny.loader(session.train), training, 0)


def importances(learner: Method) -> dict[str, Tensor]:
    kept = getattr(learner, next(kept for kept in ("fisher", "omega") if hasattr(learner, kept)))
    return {name: kept[name].clone() for name in names(learner.network.embedder) if name in kept}


def places(learner: Method) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in learner.network.embedder.named_parameters()}


def in_second(name: str, tmp_path: Path, **options: Any) -> tuple[Method, Session, dict[str, Tensor]]:
    """A method that has begun its second session, and where its parameters were then."""
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner(name, **options)
    run(learner, first)
    anchor = places(learner)
    learner.network.freeze_batchnorm(True)
    learner.begin(second)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trained(learner.network.embedder).values():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return learner.eval(), second, anchor
