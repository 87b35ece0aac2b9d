"""Sessions that are learned alone or in a group, and methods that end one process of the group."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch

import tiny
from scrubjay.errors import DataError
from scrubjay.methods import Method
from scrubjay.methods.finetune import Finetune
from scrubjay.models.embedder import NetworkOptions
from scrubjay.training import TrainingOptions, learn
from scrubjay.types import Batch, Losses
from scrubjay.workers import HERE, Workers

TRAINING = TrainingOptions(
    epochs=2, classes_per_batch=3, images_per_class=3, device="cpu", optimizer="sgd", lr=1e-3, head_lr=1e-3
)
"""Batches of 9 and 3 · 3 images, which two processes share unevenly. Adam would divide rounding errors by themselves
where a gradient is 0."""


class KilledOnce(Finetune):
    """The second process of a group is killed at its third step, the first time."""

    marker = ""
    calls = 0

    def loss(self, batch: Batch) -> Losses:
        self.calls += 1
        if self.calls == 3 and os.environ.get("RANK") == "1" and Path(self.marker).exists():
            Path(self.marker).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(batch)


class FailsInOne(Finetune):
    """The second process of a group refuses its work."""

    def loss(self, batch: Batch) -> Losses:
        if os.environ.get("RANK") == "1":
            raise DataError("the shelf is empty: fill it.")
        return super().loss(batch)


def learner(name: str | type[Method], **options: Any) -> Method:
    return tiny.learner(name, tiny.NETWORK.model_copy(update={"features": features(name)}), **options)


def features(name: str | type[Method]) -> Any:
    return NetworkOptions().features if not isinstance(name, str) or name != "slda" else "stages"


def learned(
    root: Path, name: str | type[Method], workers: Workers = HERE, **options: Any
) -> tuple[Method, dict[str, list[float]]]:
    """The method after two sessions, and the curves of the second one."""
    method, old = learner(name, **options), ()
    for number in range(2):
        session = tiny.session(root, number, 3 * number, classes=3, each=5)
        images = (*old, *session.train)
        result = learn(method, session, tiny.loader(images), TRAINING, 0, workers=workers)
        old = session.train if method.needs_old_images else ()
    return method, result.curves


def distance(one: Method, other: Method, images: torch.Tensor) -> float:
    """Largest difference of weights and of embeddings, relative to the largest weight of a tensor."""
    pairs = zip(one.network.embedder.backbone.parameters(), other.network.embedder.backbone.parameters(), strict=True)
    one.eval(), other.eval()
    with torch.no_grad():
        weights = max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-3)) for a, b in pairs)
        cosines = [method.network.embedder(images) @ method.network.embedder(images).T for method in (one, other)]
    return max(weights, float((cosines[0] - cosines[1]).abs().max()))
