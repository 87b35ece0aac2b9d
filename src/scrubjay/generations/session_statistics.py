"""Statistics of one session's training images on disk, outside the generation, so that images can be removed from them.

    statistics/g1.safetensors   the session's change of the statistics, the names of its classes, the hashes of its
                                images and, where they are kept, the trunk features of each crop

Statistics of a generation are the sum of the sessions on its line. A class is known by its name, because its label may
differ between generations: labels are positions in `classes` here.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scrubjay.closed_form.statistics import Statistics
from scrubjay.errors import CheckpointError, DataError
from scrubjay.models.checkpoint import load_tensors, save_tensors

RESTORE = "restore it from a copy; generations that answer already are untouched"
DIGEST = 16
"""Bytes of the hash of an image."""


@dataclass(frozen=True, slots=True)
class TrainingImages:
    """The images that statistics were accumulated from, in the order in which they were learned.

    Attributes:
        hashes: content hash of each of the N images, 32 hexadecimal digits.
        labels: int64 (N,), positions in the classes of the session.
        features: float16 (N, V, p), trunk features of the V crops of each image, with the bits that were added to the
            statistics; None where they are not kept.
    """

    hashes: tuple[str, ...]
    labels: Tensor
    features: Tensor | None = None

    def only(self, mask: Tensor) -> TrainingImages:
        """The images for which a mask bool (N,) is true."""
        kept = tuple(name for name, keep in zip(self.hashes, mask.tolist(), strict=True) if keep)
        return TrainingImages(kept, self.labels[mask], None if self.features is None else self.features[mask])


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """What one session has added to the statistics.

    Attributes:
        classes: names of the classes, by label.
        statistics: statistics of the session's images.
        images: the images; None in runs of experiments, from which nothing is removed.
    """

    classes: tuple[str, ...]
    statistics: Statistics
    images: TrainingImages | None = None

    def under(self, classes: Sequence[str]) -> Statistics:
        """The statistics with the labels that the classes have in another list of classes.

        Raises:
            CheckpointError: a class of the statistics is not in the list.
        """
        position = {name: label for label, name in enumerate(classes)}
        held = [self.classes[label] for label in self.statistics.labels.tolist()]
        missing = [name for name in held if name not in position]
        if missing:
            raise CheckpointError(
                f"class {missing[0]!r} has statistics but the generation has not learned it: {RESTORE}."
            )
        return self.statistics.relabelled(
            {label: position[self.classes[label]] for label in self.statistics.labels.tolist()}
        )

    def of(self, classes: Collection[str], hashes: Collection[str]) -> TrainingImages:
        """The images of these classes, and those with these content hashes; empty where none are known."""
        if self.images is None:
            return TrainingImages((), torch.zeros(0, dtype=torch.int64))
        return self.images.only(self._mask(classes, hashes))

    def removable(
        self, classes: Collection[str], hashes: Collection[str], features: Mapping[str, Tensor]
    ) -> TrainingImages:
        """The images of these classes and those with these hashes, with the features that they were learned by.

        Args:
            classes: names of classes.
            hashes: content hashes of single images.
            features: float16 (V, p) of images by content hash, where the session has not kept them.

        Raises:
            DataError: the features of an image are neither kept nor given.
        """
        found = self.of(classes, hashes)
        if not found.hashes or found.features is not None:
            return found
        missing = [name for name in found.hashes if name not in features]
        if missing:
            raise DataError(
                f"the features of {len(missing)} of {len(found.hashes)} images to remove are not stored, so what they "
                "have added to the statistics is not known: give a folder that holds these images with --images."
            )
        return replace(found, features=torch.stack([features[name] for name in found.hashes]))

    def without(
        self, classes: Collection[str], hashes: Collection[str], features: Mapping[str, Tensor]
    ) -> SessionStatistics:
        """What the session would have added without some of its images; arguments and errors as in `removable`."""
        removed = self.removable(classes, hashes, features)
        if not removed.hashes or self.images is None:
            return self
        remaining = self.statistics - _statistics(self.statistics.era, removed)
        return SessionStatistics(self.classes, remaining, self._others(classes, hashes)).compact()

    def classes_without(self, classes: Collection[str], hashes: Collection[str]) -> tuple[str, ...]:
        """Names of the classes that have an image left without the removed ones."""
        if self.images is None:
            return self.classes
        left = set(self._others(classes, hashes).labels.tolist())
        return tuple(name for label, name in enumerate(self.classes) if label in left)

    @property
    def crops(self) -> int:
        """V: number of crops of each image that were learned from."""
        return 0 if self.images is None else self.statistics.total // max(1, len(self.images.hashes))

    def _others(self, classes: Collection[str], hashes: Collection[str]) -> TrainingImages:
        assert self.images is not None
        return self.images.only(~self._mask(classes, hashes))

    def compact(self) -> SessionStatistics:
        """The same with the names of those classes only that have an image in the session."""
        held = self.statistics.labels.tolist()
        position = {label: new for new, label in enumerate(held)}
        images = self.images
        if images is not None:
            labels = torch.tensor([position[label] for label in images.labels.tolist()], dtype=torch.int64)
            images = replace(images, labels=labels)
        return SessionStatistics(
            tuple(self.classes[label] for label in held), self.statistics.relabelled(position), images
        )

    def save(self, path: Path) -> None:
        """Write to a safetensors file, which appears complete or not at all.

        Where features are kept and the statistics have fewer degrees of freedom than half the number of features, the
        statistics are not stored: they follow from the features as fast as from a factor of the scatter.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        kept = self.images is not None and self.images.features is not None
        tensors: dict[str, Tensor] = {}
        if not (kept and 2 * (self.statistics.total - len(self.statistics.labels)) < self.statistics.dim):
            tensors = {f"statistics.{name}": value for name, value in self.statistics.to_tensors().items()}
        if self.images is not None:
            joined = bytes.fromhex("".join(self.images.hashes))
            tensors["images.hashes"] = torch.from_numpy(np.frombuffer(joined, np.uint8).copy()).view(-1, DIGEST)
            tensors["images.labels"] = self.images.labels
            if self.images.features is not None:
                tensors["images.features"] = self.images.features
        save_tensors(path, tensors, {"era": self.statistics.era, "classes": self.classes})

    @classmethod
    def load(cls, path: Path) -> SessionStatistics:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        tensors, info = load_tensors(path, RESTORE)
        try:
            era, images = str(info["era"]), _images(tensors)
            classes = tuple(str(name) for name in info["classes"])
            stored = _under("statistics.", tensors)
            if images is not None and images.features is not None and not stored:
                statistics = _statistics(era, images)
            else:
                statistics = Statistics.from_tensors(era, stored)
            labels = statistics.labels.tolist()
            if any(not 0 <= label < len(classes) for label in labels):
                raise ValueError(f"labels {labels} of {len(classes)} classes")
            return cls(classes, statistics, images)
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError, DataError) as error:
            raise CheckpointError(f"{path}: holds no statistics ({error}): {RESTORE}.") from None

    def _mask(self, classes: Collection[str], hashes: Collection[str]) -> Tensor:
        assert self.images is not None
        names = (self.classes[label] for label in self.images.labels.tolist())
        hit = [name in classes or image in hashes for name, image in zip(names, self.images.hashes, strict=True)]
        return torch.tensor(hit, dtype=torch.bool)


def combined(sessions: Sequence[SessionStatistics]) -> SessionStatistics:
    """Several sessions as one; classes of the same name are merged. Features are kept where all sessions keep them.

    Args:
        sessions: at least one, over the same trunk and with the same number of crops of an image.

    Raises:
        SpaceError: the sessions are over different trunks.
    """
    classes = tuple(dict.fromkeys(name for session in sessions for name in session.classes))
    statistics = reduce(operator.add, (session.under(classes) for session in sessions))
    images = [session.images for session in sessions if session.images is not None]
    if len(images) < len(sessions):
        return SessionStatistics(classes, statistics)
    position = {name: label for label, name in enumerate(classes)}
    codes = [torch.tensor([position[name] for name in each.classes], dtype=torch.int64) for each in sessions]
    labels = torch.cat([own[each.labels] for own, each in zip(codes, images, strict=True)])
    features = [each.features for each in images if each.features is not None]
    whole = len(features) == len(images) and len({rows.shape[1:] for rows in features}) == 1
    hashes = tuple(name for each in images for name in each.hashes)
    return SessionStatistics(
        classes, statistics, TrainingImages(hashes, labels, torch.cat(features) if whole else None)
    )


def _statistics(era: str, images: TrainingImages) -> Statistics:
    assert images.features is not None
    crops = images.features.shape[1]
    return Statistics.of(era, images.features.flatten(0, 1), images.labels.repeat_interleave(crops))


def _images(tensors: Mapping[str, Tensor]) -> TrainingImages | None:
    if "images.hashes" not in tensors:
        return None
    hashes, labels, features = tensors["images.hashes"], tensors["images.labels"], tensors.get("images.features")
    if not len(hashes) == len(labels) == (len(labels) if features is None else len(features)):
        raise ValueError(f"{len(hashes)} images with {len(labels)} labels")
    return TrainingImages(names_of(hashes), labels, features)


def names_of(hashes: Tensor) -> tuple[str, ...]:
    """Content hashes as they are stored, uint8 (N, 16), as hexadecimal digits."""
    return tuple(row.numpy().tobytes().hex() for row in hashes)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
