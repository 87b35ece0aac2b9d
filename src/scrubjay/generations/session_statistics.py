"""Statistics of one session's training images on disk, outside the generation, so that images can be removed from them.

    statistics/g1.safetensors   the session's change of the statistics, the names of its classes, the hashes of its
                                images and, where they are kept, the trunk features of each crop

Statistics of a generation are the sum of the sessions on its line. A class is known by its name, because its label may
differ between generations: labels are positions in `classes` here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from scrubjay.closed_form.statistics import Statistics
from scrubjay.errors import CheckpointError, DataError
from scrubjay.generations.generation import Generation
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


class StatisticsFolder:
    """The statistics of sessions in a folder, by the name of the generation that learned the session.

    Args:
        folder: folder of the files; it is created when the first one is stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Path of the file of a session."""
        return self.folder / f"{name}.safetensors"

    def paths(self) -> list[Path]:
        """Paths of all files, in the order of their names."""
        return sorted(self.folder.glob("*.safetensors"))

    def get(self, name: str) -> SessionStatistics:
        """The statistics of a session.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        return SessionStatistics.load(self.path(name))

    def hashes(self, name: str) -> set[str]:
        """Content hashes of the images of a session, without reading the rest of its file; errors as in `get`."""
        path = self.path(name)
        try:
            with safe_open(path, framework="pt") as file:
                held = "images.hashes" in file.keys()  # noqa: SIM118
                return set(_names(file.get_tensor("images.hashes"))) if held else set()
        except (OSError, SafetensorError, ValueError) as error:
            raise CheckpointError(f"{path}: damaged or incomplete ({error}): {RESTORE}.") from None

    def centre_crops(self, name: str, era: str, hashes: Collection[str]) -> dict[str, Tensor]:
        """Kept features float16 (p,) of the centre crops of images, by content hash; without reading the other ones.

        Args:
            name: name of the session's generation.
            era: identity of the trunk; features of another one are not returned.
            hashes: content hashes of the images that are asked for.

        Returns:
            The features of those that were learned in the session, where they are kept.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        path = self.path(name)
        try:
            with safe_open(path, framework="pt") as file:
                info = json.loads((file.metadata() or {}).get("info", "{}"))
                if info.get("era") != era or "images.features" not in file.keys():  # noqa: SIM118
                    return {}
                learned = enumerate(_names(file.get_tensor("images.hashes")))
                features = file.get_slice("images.features")
                return {image: features[row, 0] for row, image in learned if image in hashes}
        except (OSError, SafetensorError, ValueError) as error:
            raise CheckpointError(f"{path}: damaged or incomplete ({error}): {RESTORE}.") from None

    def put(self, name: str, session: SessionStatistics) -> None:
        """Store the statistics of a session; an earlier file is replaced.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        session.save(self.path(name))

    def total(self, generation: Generation) -> Statistics | None:
        """Statistics of all images on the line of a generation; None where it was not learned in closed form.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        sessions = (self.get(name).under(generation.classes) for name in generation.info.statistics)
        return reduce(lambda total, session: session if total is None else total + session, sessions, None)


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
    return TrainingImages(_names(hashes), labels, features)


def _names(hashes: Tensor) -> tuple[str, ...]:
    return tuple(row.numpy().tobytes().hex() for row in hashes)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
