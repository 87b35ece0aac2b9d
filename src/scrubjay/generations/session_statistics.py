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
from functools import cached_property, reduce
from pathlib import Path
from typing import cast

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


@dataclass(frozen=True)
class SessionStatistics:
    """What one session has added to the statistics.

    Attributes:
        classes: names of the classes, by label.
        era: identity of the trunk features.
        stored: statistics of the session's images; None where they follow from the stored features of the images.
        images: the images; None in runs of experiments, from which nothing is removed.
    """

    classes: tuple[str, ...]
    era: str
    stored: Statistics | None
    images: TrainingImages | None

    @classmethod
    def of_session(
        cls, classes: tuple[str, ...], statistics: Statistics, images: TrainingImages | None = None
    ) -> SessionStatistics:
        """What a session has added, with the names of those classes only that have an image in it.

        Args:
            classes: names of the classes, by label.
            statistics: statistics of the session's images.
            images: the images, where they are known.
        """
        return cls(classes, statistics.era, statistics, images)._compact()

    @cached_property
    def statistics(self) -> Statistics:
        """Statistics of the session's images."""
        if self.stored is not None:
            return self.stored
        assert self.images is not None
        return _statistics(self.era, self.images)

    def under(self, classes: Sequence[str]) -> Statistics:
        """The statistics with the labels that the classes have in another list of classes.

        Raises:
            CheckpointError: a class of the statistics is not in the list.
        """
        position = {name: label for label, name in enumerate(classes)}
        missing = [name for name in self.classes if name not in position]
        if missing:
            raise CheckpointError(
                f"class {missing[0]!r} has statistics but the generation has not learned it: {RESTORE}."
            )
        return self.statistics.relabelled({label: position[name] for label, name in enumerate(self.classes)})

    def renamed(self, names: Sequence[str]) -> SessionStatistics:
        """The statistics under other names of the classes, in the same order. Classes of the same name become one."""
        if tuple(names) == self.classes:
            return self
        classes = tuple(dict.fromkeys(names))
        label = {old: classes.index(name) for old, name in enumerate(names)}
        images = self.images
        if images is not None:
            images = replace(images, labels=torch.tensor([*label.values()], dtype=torch.int64)[images.labels])
        stored = None if self.stored is None else self.stored.merged(label)
        return SessionStatistics(classes, self.era, stored, images)

    def having(self, classes: Collection[str], hashes: Collection[str]) -> TrainingImages:
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
            DataError: the features of an image are neither kept nor given, or the images of a class are not known.
        """
        learned = sorted(set(classes) & set(self.classes))
        if learned and self.images is None:
            raise DataError(
                f"class {learned[0]!r} was learned in a run, whose images are not known to the catalogue, so they "
                "cannot be removed: learn the other classes in a new catalogue."
            )
        found = self.having(classes, hashes)
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
        left = None if self.stored is None else self.stored - _statistics(self.era, removed)
        return SessionStatistics(self.classes, self.era, left, self._others(classes, hashes))._compact()

    def classes_without(self, classes: Collection[str], hashes: Collection[str]) -> tuple[str, ...]:
        """Names of the classes that have an image left without the removed ones."""
        if self.images is None:
            return self.classes
        left = set(self._others(classes, hashes).labels.tolist())
        return tuple(name for label, name in enumerate(self.classes) if label in left)

    @property
    def crops(self) -> int:
        """V: number of crops of each image that were learned from."""
        if self.images is None:
            return 0
        if self.images.features is not None:
            return self.images.features.shape[1]
        return self.statistics.total // max(1, len(self.images.hashes))

    def _others(self, classes: Collection[str], hashes: Collection[str]) -> TrainingImages:
        assert self.images is not None
        return self.images.only(~self._mask(classes, hashes))

    def _compact(self) -> SessionStatistics:
        """The same with the names of those classes only that have an image in the session."""
        held = self.statistics.labels if self.images is None else torch.unique(self.images.labels)
        position = {label: new for new, label in enumerate(held.tolist())}
        images, stored = self.images, self.stored
        if images is not None:
            labels = torch.tensor([position[label] for label in images.labels.tolist()], dtype=torch.int64)
            images = replace(images, labels=labels)
        classes = tuple(self.classes[label] for label in position)
        return SessionStatistics(classes, self.era, None if stored is None else stored.relabelled(position), images)

    def save(self, path: Path, changes: int = 0) -> None:
        """Write to a safetensors file, which appears complete or not at all.

        Args:
            path: the file.
            changes: number of changes of class names that the names follow already; see `ClassNames.current`.

        Where features are kept and the statistics have fewer degrees of freedom than half the number of features, the
        statistics are not stored: they follow from the features as fast as from a factor of the scatter.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        tensors: dict[str, Tensor] = {}
        if not self._follows():
            tensors = {f"statistics.{name}": value for name, value in self.statistics.to_tensors().items()}
        if self.images is not None:
            joined = bytes.fromhex("".join(self.images.hashes))
            tensors["images.hashes"] = torch.from_numpy(np.frombuffer(joined, np.uint8).copy()).view(-1, DIGEST)
            tensors["images.labels"] = self.images.labels
            if self.images.features is not None:
                tensors["images.features"] = self.images.features
        save_tensors(path, tensors, {"era": self.era, "classes": self.classes, "name_changes": changes})

    @classmethod
    def load(cls, path: Path) -> tuple[SessionStatistics, int]:
        """Read what `save` wrote: the statistics, and the number of changes of class names that their names follow.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        tensors, info = load_tensors(path, RESTORE)
        try:
            era, images = str(info["era"]), _images(tensors)
            classes = tuple(str(name) for name in info["classes"])
            given = _under("statistics.", tensors)
            stored = Statistics.from_tensors(era, given) if given else None
            if stored is None and (images is None or images.features is None):
                raise ValueError("neither statistics nor features")
            labels = images.labels if images is not None else cast(Statistics, stored).labels
            if torch.unique(labels).tolist() != list(range(len(classes))):
                raise ValueError(f"labels of {len(labels)} images do not fit {len(classes)} classes")
            return cls(classes, era, stored, images), int(info.get("name_changes", 0))
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
            raise CheckpointError(f"{path}: holds no statistics ({error}): {RESTORE}.") from None

    def _follows(self) -> bool:
        """Whether the statistics follow from the features with no more work than from a factor of the scatter."""
        if self.images is None or self.images.features is None:
            return False
        images, crops, dim = self.images.features.shape
        return 2 * (images * crops - len(self.classes)) < dim

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
        return SessionStatistics.of_session(classes, statistics)
    position = {name: label for label, name in enumerate(classes)}
    codes = [torch.tensor([position[name] for name in each.classes], dtype=torch.int64) for each in sessions]
    labels = torch.cat([own[each.labels] for own, each in zip(codes, images, strict=True)])
    features = [each.features for each in images if each.features is not None]
    whole = len(features) == len(images) and len({rows.shape[1:] for rows in features}) == 1
    hashes = tuple(name for each in images for name in each.hashes)
    images_of_all = TrainingImages(hashes, labels, torch.cat(features) if whole else None)
    return SessionStatistics.of_session(classes, statistics, images_of_all)


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
    if features is not None and not bool(torch.isfinite(features).all()):
        raise ValueError("a feature is not finite")
    return TrainingImages(names_of(hashes), labels, features)


def names_of(hashes: Tensor) -> tuple[str, ...]:
    """Content hashes as they are stored, uint8 (N, 16), as hexadecimal digits."""
    return tuple(row.numpy().tobytes().hex() for row in hashes)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
