"""The training loop: batches, loss, backward, step, log. It can be interrupted and resumed exactly.

The contents of a batch are a function of (seed, session, epoch, position) and of nothing that ran before, so a run
that is interrupted and resumed ends with the same weights (on a CPU to the bit) as an uninterrupted one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scrubjay.closed_form.saved_crops import SavedCrops
from scrubjay.components.session_images import SessionImages
from scrubjay.data.loading import ImageLoader, readable
from scrubjay.errors import DataError
from scrubjay.methods import Method
from scrubjay.training.fit import Work, rate, saved_state
from scrubjay.training.options import TrainingOptions
from scrubjay.training.together import train
from scrubjay.types import Sample, Session
from scrubjay.workers import HERE, Workers

__all__ = ["Learned", "TrainingOptions", "adopt", "discard", "learn", "rate", "seeded"]


@dataclass(frozen=True, slots=True)
class Learned:
    """Result of learning a session, besides the weights.

    Attributes:
        curves: by name, each term of the objective and each of the method's figures: one value per step.
        images: number of images trained on since the process was started, counting repeats.
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
        workers: where trunk features are computed, for methods that learn in closed form; and the number of processes
            that compute each training step together, unless Ray is named.

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
        state = None if checkpoint is None else saved_state(checkpoint, key)
        random, batches_seed = torch.get_rng_state(), _derived(seed, session.index)
        work = Work(method, session.index, decodable, options, batches_seed, key, random, state)
        curves, images = train(work, checkpoint, 1 if workers.ray else workers.processes)
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
