"""Which images of a session are learned: each once, told by a hash of its content; and what is stored of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from scrubjay.data.photos import content_hash
from scrubjay.errors import DataError, ImageError
from scrubjay.generations.session_statistics import TrainingImages
from scrubjay.types import Sample, Session


def without_known(session: Session, names: Sequence[str], known: Collection[str]) -> tuple[Session, int]:
    """A session without images that were learned before, and without repeated images of a class.

    Args:
        session: the session.
        names: names of all classes, by label.
        known: content hashes of the images that were learned from or held out before.

    Returns:
        The session, and the number of images that were left out.

    Raises:
        DataError: no training image is left, or none of a new class.
    """
    seen: set[tuple[str, int]] = set()
    train = _new(session.train, known, seen)
    test = _new(session.test, known, seen)
    if not train:
        raise DataError(
            f"all {len(session.train)} training images were learned before; there is nothing to learn: add new images."
        )
    left = {sample.label for sample in train}
    lost = [names[label] for label in session.labels if label not in left]
    if lost:
        raise DataError(
            f"class {lost[0]!r}: all of its training images were learned before, in another class or as held-out "
            "images; give other images, or `scrubjay forget` the other class first."
        )
    skipped = len(session.train) + len(session.test) - len(train) - len(test)
    return replace(session, train=tuple(train), test=tuple(test)), skipped


def _new(samples: Sequence[Sample], known: Collection[str], seen: set[tuple[str, int]]) -> list[Sample]:
    """The samples that are not known, and not in `seen` with their label; what is returned is added to `seen`."""
    new = []
    for sample in samples:
        try:
            key = content_hash(sample), sample.label
        except ImageError:  # reported where the images are read
            new.append(sample)
            continue
        if key[0] not in known and key not in seen:
            seen.add(key)
            new.append(sample)
    return new


def training_images(samples: Sequence[Sample], crops: Sequence[tuple[Tensor, Tensor]] | None) -> TrainingImages:
    """What is stored of the images that statistics were accumulated from.

    Args:
        samples: the N images.
        crops: in any order, blocks of trunk features float16 (B, p) of crops, with positions int64 (B,) of their images
            in `samples`; None where features are not to be kept.

    Raises:
        DataError: an image could be read before, but not any more.
    """
    labels = torch.tensor([sample.label for sample in samples], dtype=torch.int64)
    hashes = tuple(content_hash(sample) for sample in samples)
    if crops is None:
        return TrainingImages(hashes, labels)
    features, positions = torch.cat([rows for rows, _ in crops]), torch.cat([indices for _, indices in crops])
    order = torch.argsort(positions, stable=True)  # several processes give blocks in any order
    features, positions = features[order], positions[order]
    count = len(features) // len(samples)
    if not torch.equal(positions, torch.arange(len(samples)).repeat_interleave(count)):
        raise DataError("an image could not be read a second time while it was learned: repeat the same command.")
    return TrainingImages(hashes, labels, features.view(len(samples), count, -1))
