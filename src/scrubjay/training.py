"""The training loop: batches, loss, backward, step, log. It can be interrupted and resumed exactly.

The contents of a batch are a function of (seed, session, epoch, position) and of nothing that ran before, so a run
that is interrupted and resumed ends with the same weights (on a CPU to the bit) as an uninterrupted one.
"""

from __future__ import annotations

import logging
import math
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from pydantic import AliasChoices, Field

from scrubjay.closed_form.saved_crops import SavedCrops
from scrubjay.components.session_images import SessionImages
from scrubjay.config import Config
from scrubjay.data.loading import ImageLoader, batches, readable
from scrubjay.data.sampler import PKSampler
from scrubjay.errors import DataError, ScrubjayError
from scrubjay.methods import Method
from scrubjay.models.checkpoint import check_key, load_into, load_tensors, save_tensors
from scrubjay.progress import track
from scrubjay.types import Sample, Session
from scrubjay.workers import HERE, Workers

logger = logging.getLogger(__name__)


class TrainingOptions(Config):
    """How a session is trained."""

    epochs: int = Field(10, ge=0)
    """Epochs of the initial session."""
    increment_epochs: int | None = Field(None, ge=0)
    """Epochs of every later session; by default as many as the initial session has."""
    classes_per_batch: int = Field(16, ge=2)
    """P: number of classes in a batch."""
    images_per_class: int = Field(5, ge=1, validation_alias=AliasChoices("images_per_class", "pictures_per_class"))
    """K: number of images of each class in a batch."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    """Optimizer; sgd uses momentum 0.9."""
    lr: float = Field(3e-4, gt=0)
    """Learning rate of the backbone."""
    head_lr: float = Field(1e-3, gt=0)
    """Learning rate of the projection, the head and the method's own modules."""
    increment_lr: float = Field(0.3, gt=0)
    """Factor on both learning rates in every session after the initial one."""
    weight_decay: float = Field(5e-4, ge=0)
    """Weight decay of all trained parameters."""
    warmup: int = Field(0, ge=0)
    """Number of steps in which the learning rates rise linearly to their full value."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate schedule of a session after the warm-up: constant, or a half cosine to zero."""
    freeze_batchnorm: Literal["never", "after_first", "always"] = "after_first"
    """Sessions in which the statistics and parameters of BatchNorm layers are frozen."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision; with "no" everything is float32."""
    device: Literal["auto", "cpu"] = "auto"
    """Device to train on: an accelerator if there is one, or always the CPU."""
    checkpoint_every: int = Field(200, ge=1)
    """Steps between two checkpoints within a session."""


@dataclass(frozen=True, slots=True)
class Learned:
    """Result of learning a session, besides the weights.

    Attributes:
        curves: by name, each term of the objective and each of the method's figures: one value per step.
        images: number of images trained on by this process, counting repeats.
        failures: images that could not be decoded: path and reason.
        samples: the images that could be decoded, in the order of the pass that `Method.end` was given.
    """

    curves: dict[str, list[float]]
    images: int
    failures: tuple[tuple[str, str], ...]
    samples: tuple[Sample, ...]


def learn(
    method: Method,
    session: Session,
    loader: ImageLoader,
    options: TrainingOptions,
    seed: int,
    checkpoint: Path | None = None,
    key: str = "",
    workers: Workers = HERE,
) -> Learned:
    """Learn one session: `method.begin`, the training steps, `method.end`.

    Args:
        method: the method with the network of the previous session.
        session: the new classes and their images.
        loader: loader of the training images: those of `session.train`, or of all sessions for a method that needs
            old images.
        options: how to train.
        seed: seed of everything random.
        checkpoint: file in which the state is saved regularly and on Ctrl-C; if it exists, training resumes from it. A
            folder beside it holds the features of an interrupted pass over the images; see `discard`.
        key: identifies this work; a checkpoint with another key is refused.
        workers: where trunk features are computed, for methods that learn in closed form.

    Raises:
        UserError: the checkpoint belongs to other work.
        CheckpointError: the checkpoint is damaged, or belongs to another network.
        DataError: no image of some class can be decoded.
        ScrubjayError: the loss is not finite.
        KeyboardInterrupt: on Ctrl-C, after the state was saved.
    """
    torch.manual_seed(_derived(seed, session.index))
    frozen = options.freeze_batchnorm == "always" or (options.freeze_batchnorm == "after_first" and session.index > 0)
    method.network.freeze_batchnorm(frozen)
    method.begin(session)
    samples, failures = readable(loader)  # so that every image in the plan of batches can be decoded
    _check_classes(method, session, loader, samples)
    curves: dict[str, list[float]] = {}
    images = 0
    if any(parameter.requires_grad for parameter in method.parameters()):
        decodable = loader.of(samples, train=True)
        fit = _Fit(method, decodable, options, _derived(seed, session.index), key, session)
        curves, images = fit.run(checkpoint)
    saved = None if checkpoint is None else SavedCrops(_folder_of_crops(checkpoint), key)
    _end(method, session, loader.of(samples, train=False), workers, saved)
    return Learned(curves, images, failures, tuple(samples))


def adopt(method: Method, session: Session, loader: ImageLoader, seed: int) -> None:
    """Take over a session that was trained elsewhere: `method.begin` and `method.end` without training steps.

    Args:
        method: the method with the network as it is after the session.
        session: the session that was learned.
        loader: loader of the images that it was learned from.
        seed: seed of everything random.
    """
    torch.manual_seed(_derived(seed, session.index))
    method.begin(session)
    samples, _ = readable(loader)
    _end(method, session, loader.of(samples, train=False))


def _end(
    method: Method,
    session: Session,
    loader: ImageLoader,
    workers: Workers = HERE,
    saved: SavedCrops | None = None,
) -> None:
    method.eval()
    method.end(session, SessionImages(method.network, loader, workers, saved))


def discard(checkpoint: Path) -> None:
    """Delete what `learn` saved, once the session is stored."""
    checkpoint.unlink(missing_ok=True)
    shutil.rmtree(_folder_of_crops(checkpoint), ignore_errors=True)


def _folder_of_crops(checkpoint: Path) -> Path:
    return checkpoint.with_suffix(".crops")


def rate(step: int, steps: int, options: TrainingOptions) -> float:
    """Factor on the learning rates at a step: linear warm-up, then constant or a half cosine from 1 to 0.

    Args:
        step: number of the step, from 0.
        steps: number of steps of the session.
        options: the schedule.
    """
    if step < options.warmup:
        return (step + 1) / options.warmup
    if options.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - options.warmup) / max(1, steps - options.warmup)))


class _Fit:
    """The training steps of one session, with all the state that a checkpoint saves."""

    def __init__(
        self, method: Method, loader: ImageLoader, options: TrainingOptions, seed: int, key: str, session: Session
    ) -> None:
        self.method, self.loader, self.options, self.key, self.session = method, loader, options, key, session
        labels = [sample.label for sample in loader.samples]
        sampler = PKSampler(labels, options.classes_per_batch, options.images_per_class, seed)
        later = session.index > 0 and options.increment_epochs is not None
        epochs = options.increment_epochs if later else options.epochs
        self.plan = [batch for epoch in range(epochs or 0) for batch in sampler.epoch(epoch)]
        # Accelerate keeps one global state per process, but two runs in a process may differ in precision.
        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(mixed_precision=options.precision, cpu=options.device == "cpu")
        self.model, self.optimizer = self.accelerator.prepare(method, _optimizer(method, options))
        factor = options.increment_lr if session.index > 0 else 1.0
        self.rates = [group["lr"] * factor for group in self.optimizer.param_groups]
        self.curves: dict[str, list[float]] = {}
        self.step = 0

    def run(self, checkpoint: Path | None) -> tuple[dict[str, list[float]], int]:
        if checkpoint is not None and checkpoint.exists():
            self._load(checkpoint)
        start, images = self.step, 0
        self.model.train()
        remaining = batches(self.loader, self.plan[start:])
        with _noticing_interrupts() as interrupted:
            for batch in track(remaining, f"learn session {self.session.index + 1}", len(self.plan), start):
                for group, full in zip(self.optimizer.param_groups, self.rates, strict=True):
                    group["lr"] = full * rate(self.step, len(self.plan), self.options)
                self.method.progress = self.step / len(self.plan)
                losses = self.model(batch.to(self.accelerator.device))
                self.optimizer.zero_grad()
                self.accelerator.backward(losses.total)
                self.optimizer.step()
                self._log({name: float(value.detach()) for name, value in losses.items()} | self.method.figures)
                self.step += 1
                images += len(batch.labels)
                if checkpoint is not None and (interrupted.is_set() or self.step % self.options.checkpoint_every == 0):
                    self._save(checkpoint)
                if interrupted.is_set():
                    raise KeyboardInterrupt
        self.method.eval()
        return self.curves, images

    def _log(self, values: dict[str, float]) -> None:
        not_finite = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
        if not_finite:
            raise ScrubjayError(
                f"session {self.session.index + 1}, step {self.step}: {', '.join(not_finite)} is not finite: "
                f"lower training.lr ({self.options.lr}) or the weight of that term."
            )
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)

    def _save(self, path: Path) -> None:
        tensors = {f"method.{name}": value for name, value in self.method.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        tensors["rng"] = torch.get_rng_state()
        save_tensors(path, tensors, {"key": self.key, "step": self.step, "curves": self.curves})
        logger.info("saved session %d at step %d of %d", self.session.index + 1, self.step, len(self.plan))

    def _load(self, path: Path) -> None:
        tensors, info = load_tensors(path, "delete it to start the session from its beginning")
        check_key(path, info, self.key)
        load_into(self.method, _under("method.", tensors), path)
        state: dict[int, dict[str, Any]] = {}
        for name, value in _under("optimizer.", tensors).items():
            index, _, part = name.partition(".")
            state.setdefault(int(index), {})[part] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        torch.set_rng_state(tensors["rng"])
        self.step, self.curves = info["step"], info["curves"]


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _optimizer(method: Method, options: TrainingOptions) -> torch.optim.Optimizer:
    trained = [(name, parameter) for name, parameter in method.named_parameters() if parameter.requires_grad]
    backbone = [parameter for name, parameter in trained if name.startswith("network.embedder.backbone.")]
    rest = [parameter for name, parameter in trained if not name.startswith("network.embedder.backbone.")]
    groups = [{"params": rest, "lr": options.head_lr}, {"params": backbone, "lr": options.lr}]
    filled: Sequence[dict[str, Any]] = [group for group in groups if group["params"]]
    if options.optimizer == "sgd":
        return torch.optim.SGD(filled, momentum=0.9, weight_decay=options.weight_decay)
    rule = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return rule(filled, weight_decay=options.weight_decay)


def _check_classes(method: Method, session: Session, loader: ImageLoader, decodable: Sequence[Sample]) -> None:
    lost = {sample.label for sample in loader.samples} - {sample.label for sample in decodable}
    if not method.needs_old_images:
        lost.intersection_update(session.labels)  # other classes were learned before, from other images
    if lost:
        example = next(sample.path for sample in loader.samples if sample.label in lost)
        raise DataError(
            f"no image of the class of {example} can be decoded; replace the images, or leave the class out."
        )
    if not decodable:
        raise DataError(
            f"there is nothing to learn: no image that was not learned before can be decoded, such as "
            f"{loader.samples[0].path}; replace it, or leave it out."
        )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator inside the block; afterwards its earlier state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _derived(seed: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


@contextmanager
def _noticing_interrupts() -> Iterator[threading.Event]:
    """Inside the block Ctrl-C sets the event, so that the current step is finished; a second Ctrl-C interrupts it."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.getsignal(signal.SIGINT)

    def notice(*_: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    signal.signal(signal.SIGINT, notice)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
