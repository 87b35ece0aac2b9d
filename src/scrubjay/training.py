"""The only loop: batches, loss, backward, step, log; interrupted and resumed exactly.

What a batch holds is a function of (seed, session, epoch, position), never of what ran before, so that a run that is
cut and goes on has the same weights, to the bit on a CPU, as one that was not.
"""

from __future__ import annotations

import logging
import math
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

from scrubjay.config import Config
from scrubjay.data.loading import ImageLoader, batches, in_order, readable
from scrubjay.data.sampler import PKSampler
from scrubjay.errors import DataError, ScrubjayError, UserError
from scrubjay.methods import Method
from scrubjay.models.checkpoint import load_into, load_tensors, save_tensors
from scrubjay.progress import track
from scrubjay.types import Sample, Session

logger = logging.getLogger(__name__)


SHOWN = 64
"""Images in a batch of the pass that `Method.end` may make."""


class TrainingOptions(Config):
    """How a session is learned."""

    epochs: int = Field(10, ge=0)
    """Passes over the images of the initial session."""
    increment_epochs: int | None = Field(None, ge=0)
    """Passes over the images of every later session; none: as many as in the initial one."""
    classes_per_batch: int = Field(16, ge=2)
    """P: classes in a batch."""
    images_per_class: int = Field(5, ge=1, validation_alias=AliasChoices("images_per_class", "pictures_per_class"))
    """K: images of each."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    """Update rule; sgd has momentum 0.9."""
    lr: float = Field(3e-4, gt=0)
    """Learning rate of the backbone."""
    head_lr: float = Field(1e-3, gt=0)
    """Learning rate of projection, head and the method's own parts."""
    increment_lr: float = Field(0.3, gt=0)
    """Factor on both rates in every later session."""
    weight_decay: float = Field(5e-4, ge=0)
    """Weight decay."""
    warmup: int = Field(0, ge=0)
    """Steps in which the rates rise linearly to their full value."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Whether the rates fall to zero over a session."""
    freeze_batchnorm: Literal["never", "after_first", "always"] = "after_first"
    """When BatchNorm keeps its statistics and parameters."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision."""
    device: Literal["auto", "cpu"] = "auto"
    """The accelerator where there is one, or the CPU."""
    checkpoint_every: int = Field(200, ge=1)
    """Steps between two checkpoints inside of a session."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What learning a session left besides the weights.

    Attributes:
        curves: every term of the objective and every one of the method's figures by name, a value a step.
        images: images shown, with repeats, by this process.
        failures: images that could not be decoded: path and reason.
    """

    curves: dict[str, list[float]]
    images: int
    failures: tuple[tuple[str, str], ...]


def learn(
    method: Method,
    session: Session,
    loader: ImageLoader,
    options: TrainingOptions,
    seed: int,
    checkpoint: Path | None = None,
    key: str = "",
) -> Learned:
    """Learn one session: `method.begin`, the steps, `method.end`.

    Args:
        method: holds the network as the previous session left it.
        session: what is new.
        loader: what to learn from: of `session.train`, or of all sessions for a method that needs old images.
        options: how.
        seed: of everything random.
        checkpoint: file to save to now and then and on Ctrl-C, and to go on from when it is there.
        key: names the work; a checkpoint of other work is refused.

    Raises:
        UserError: the checkpoint is of other work.
        CheckpointError: the checkpoint is damaged, or of another network.
        ScrubjayError: the loss is not finite.
        KeyboardInterrupt: after the state was saved.
    """
    torch.manual_seed(_derived(seed, session.index))
    frozen = options.freeze_batchnorm == "always" or (options.freeze_batchnorm == "after_first" and session.index > 0)
    method.network.freeze_batchnorm(frozen)
    method.begin(session)
    samples, failures = readable(loader)  # so that a plan of batches is never short of an image
    _check_classes(loader, samples)
    curves: dict[str, list[float]] = {}
    images = 0
    if any(parameter.requires_grad for parameter in method.parameters()):
        whole = loader.of(samples, train=True)
        fit = _Fit(method, whole, options, _derived(seed, session.index), key, session)
        curves, images = fit.run(checkpoint)
    _end(method, session, loader.of(samples, train=False))
    return Learned(curves, images, failures)


def adopt(method: Method, session: Session, loader: ImageLoader, seed: int) -> None:
    """Take a session that was learned elsewhere for one's own: `method.begin` and `method.end`, and no step.

    Args:
        method: holds the network as it was after the session.
        session: what was learned.
        loader: what it was learned from.
        seed: of everything random.
    """
    torch.manual_seed(_derived(seed, session.index))
    method.begin(session)
    samples, _ = readable(loader)
    _end(method, session, loader.of(samples, train=False))


def _end(method: Method, session: Session, shown: ImageLoader) -> None:
    device = next(method.parameters()).device
    method.eval()
    method.end(session, lambda: (batch.to(device) for batch in in_order(shown, SHOWN)))


def rate(step: int, steps: int, options: TrainingOptions) -> float:
    """Factor on the learning rates at a step, counted from 0.

    Linear warm-up, then constant or a half cosine from 1 to 0.
    """
    if step < options.warmup:
        return (step + 1) / options.warmup
    if options.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - options.warmup) / max(1, steps - options.warmup)))


class _Fit:
    """One session's steps, with all the state that a checkpoint holds."""

    def __init__(
        self, method: Method, loader: ImageLoader, options: TrainingOptions, seed: int, key: str, session: Session
    ) -> None:
        self.method, self.loader, self.options, self.key, self.session = method, loader, options, key, session
        labels = [sample.label for sample in loader.samples]
        sampler = PKSampler(labels, options.classes_per_batch, options.images_per_class, seed)
        later = session.index > 0 and options.increment_epochs is not None
        epochs = options.increment_epochs if later else options.epochs
        self.plan = [batch for epoch in range(epochs or 0) for batch in sampler.epoch(epoch)]
        # Accelerate keeps one state a process; two runs in it may ask for two precisions.
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
        todo = batches(self.loader, self.plan[start:])
        with _noticing_interrupts() as interrupted:
            for batch in track(todo, f"learn session {self.session.index + 1}", len(self.plan), start):
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
        wrong = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise ScrubjayError(
                f"session {self.session.index + 1}, step {self.step}: {', '.join(wrong)} is not finite: "
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
        tensors, info = load_tensors(path, "delete it, and the session starts again")
        if info.get("key") != self.key:
            raise UserError(
                f"{path}: holds interrupted work on other data or with other options: give those again to finish it, "
                "or delete the file to drop it."
            )
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


def _check_classes(loader: ImageLoader, good: Sequence[Sample]) -> None:
    lost = {sample.label for sample in loader.samples} - {sample.label for sample in good}
    if lost:
        example = next(sample.path for sample in loader.samples if sample.label in lost)
        raise DataError(f"no image of the class of {example} can be decoded; mend the images or leave it out.")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside of the block torch's CPU generator starts from `seed`; afterwards it is where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _derived(seed: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


@contextmanager
def _noticing_interrupts() -> Iterator[threading.Event]:
    """Ctrl-C sets the event instead of stopping a step half way; a second one stops at once."""
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
