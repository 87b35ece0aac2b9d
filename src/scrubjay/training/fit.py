"""The training steps of one session, in this process alone or as one of a group that computes each step together."""

from __future__ import annotations

import copy
import logging
import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from scrubjay.data.loading import ImageLoader, Key, batches
from scrubjay.data.sampler import PKSampler
from scrubjay.errors import ConfigError, ScrubjayError
from scrubjay.methods import Method
from scrubjay.models.checkpoint import check_key, load_into, load_tensors, save_tensors
from scrubjay.models.shared_batch import SharedBatch, average_gradients, sharing
from scrubjay.progress import track
from scrubjay.training.options import TrainingOptions
from scrubjay.types import Batch
from scrubjay.workers.ranks import Group

logger = logging.getLogger(__name__)

Saved = tuple[Path, dict[str, Tensor], dict[str, Any]]
"""Path, tensors and description of a checkpoint."""


@dataclass(frozen=True, slots=True)
class Work:
    """The training steps of one session: all that a process needs to take part in them.

    Attributes:
        method: the method, after `begin`.
        session: number of the session.
        loader: the images; all of them can be decoded.
        options: how to train.
        seed: seed of the batches.
        key: identifies the work; a checkpoint with another key is refused.
        random: state of torch's CPU generator, from which methods draw.
        saved: the state from which training goes on; None: from the beginning.
    """

    method: Method
    session: int
    loader: ImageLoader
    options: TrainingOptions
    seed: int
    key: str
    random: Tensor
    saved: Saved | None

    def plan(self) -> list[list[Key]]:
        """The batches of all steps."""
        options = self.options
        labels = [sample.label for sample in self.loader.samples]
        sampler = PKSampler(labels, options.classes_per_batch, options.images_per_class, self.seed)
        later = self.session > 0 and options.increment_epochs is not None
        epochs = options.increment_epochs if later else options.epochs
        return [list(batch) for epoch in range(epochs or 0) for batch in sampler.epoch(epoch)]


def saved_state(checkpoint: Path, key: str) -> Saved | None:
    """The content of a checkpoint; None where there is none.

    Raises:
        UserError: it belongs to other work.
        CheckpointError: it is damaged.
    """
    if not checkpoint.exists():
        return None
    tensors, info = load_tensors(checkpoint, "delete it to start the session from its beginning")
    check_key(checkpoint, info, key)
    return checkpoint, tensors, info


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


class Fit:
    """The training steps, with all the state that a checkpoint saves.

    Args:
        work: what is trained.
        group: the processes that compute each step together; None: this one alone.

    Raises:
        ConfigError: a batch has fewer images than the group has processes.
    """

    def __init__(self, work: Work, group: Group | None = None) -> None:
        self.work, self.group, self.plan = work, group, work.plan()
        smallest = min(map(len, self.plan), default=0)
        if group is not None and self.plan and smallest < group.size:
            raise ConfigError(
                f"{group.size} processes cannot share a batch of {smallest} images: take at most {smallest}."
            )
        options, alone = work.options, group is None
        # Accelerate keeps one global state per process, but two runs in a process may differ in precision.
        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(
            mixed_precision=options.precision,
            cpu=options.device == "cpu" or not (alone or torch.cuda.is_available()),
        )
        # `evaluation_mode` leaves out torch's wrapper for data parallelism, which takes the loss of parts of a batch
        self.model = self.accelerator.prepare_model(work.method, evaluation_mode=not alone)
        self.optimizer = self.accelerator.prepare_optimizer(_optimizer(work.method, options))
        factor = options.increment_lr if work.session > 0 else 1.0
        self.rates = [group["lr"] * factor for group in self.optimizer.param_groups]
        self.curves: dict[str, list[float]] = {}
        self.step = 0

    def run(self, checkpoint: Path | None) -> tuple[dict[str, list[float]], int]:
        """Train from the saved state on.

        Args:
            checkpoint: file in which the state is saved regularly and on Ctrl-C; None: nowhere.

        Returns:
            The curves of the whole session, and the number of images trained on here, counting repeats.
        """
        method, options = self.work.method, self.work.options
        torch.set_rng_state(self.work.random)
        if self.work.saved is not None:
            self._load(*self.work.saved)
        start, images = self.step, 0
        self.model.train()
        with self._batches(self.plan[start:]) as remaining, _noticing_interrupts() as interrupted:
            for batch in track(remaining, f"learn session {self.work.session + 1}", len(self.plan), start):
                for group, full in zip(self.optimizer.param_groups, self.rates, strict=True):
                    group["lr"] = full * rate(self.step, len(self.plan), options)
                method.progress = self.step / len(self.plan)
                losses = self.model(batch)
                self.optimizer.zero_grad()
                self.accelerator.backward(losses.total)
                if self.group is not None:
                    average_gradients(method, self.group)
                self.optimizer.step()
                self._log({name: float(value.detach()) for name, value in losses.items()} | method.figures)
                self.step += 1
                images += len(batch.labels)
                if checkpoint is not None and (interrupted.is_set() or self.step % options.checkpoint_every == 0):
                    self._save(checkpoint)
                if interrupted.is_set():
                    raise KeyboardInterrupt
        method.eval()
        return self.curves, images

    @contextmanager
    def _batches(self, plan: Sequence[Sequence[Key]]) -> Iterator[Iterator[Batch]]:
        """The batches on the device; in a group each process loads a part of their images."""
        loader, device = self.work.loader, self.accelerator.device
        if self.group is None:
            yield (batch.to(device) for batch in batches(loader, plan))
            return
        loader = copy.copy(loader)  # an image that can no longer be decoded would be missing in one process alone
        loader.options = loader.options.model_copy(update={"on_error": "raise"})
        with sharing(self.work.method, self.group) as shared:
            parts = batches(loader, [shared.own(keys) for keys in plan])
            yield (_gathered(part.to(device), shared) for part in parts)

    def _log(self, values: dict[str, float]) -> None:
        not_finite = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
        if not_finite:
            raise ScrubjayError(
                f"session {self.work.session + 1}, step {self.step}: {', '.join(not_finite)} is not finite: "
                f"lower training.lr ({self.work.options.lr}) or the weight of that term."
            )
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)

    def _save(self, path: Path) -> None:
        tensors = {f"method.{name}": value for name, value in self.work.method.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        tensors["rng"] = torch.get_rng_state()
        save_tensors(path, tensors, {"key": self.work.key, "step": self.step, "curves": self.curves})
        logger.info("saved session %d at step %d of %d", self.work.session + 1, self.step, len(self.plan))

    def _load(self, path: Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
        load_into(self.work.method, _under("method.", tensors), path)
        state: dict[int, dict[str, Any]] = {}
        for name, value in _under("optimizer.", tensors).items():
            index, _, part = name.partition(".")
            state.setdefault(int(index), {})[part] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        torch.set_rng_state(tensors["rng"])
        self.step, self.curves = info["step"], info["curves"]


def _gathered(part: Batch, shared: SharedBatch) -> Batch:
    """The whole batch from the parts of all processes."""
    return replace(
        part, images=shared.gather(part.images), labels=shared.gather(part.labels), indices=shared.gather(part.indices)
    )


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
