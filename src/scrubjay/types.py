"""Immutable values that packages exchange. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Split = Literal["train", "test"]
"""What an image is for; see `Sample.split`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image on disk.

    Attributes:
        path: the image file.
        label: index into the `classes` of the dataset or stream that holds the sample.
        split: "train" images are trained on; no network is ever trained on "test" images. In an experiment test images
            are only evaluated on. In a catalogue they also choose the bridge between two generations and, as probe
            images, fit the calibrations and then measure the promotion gate, so its figures are not those of images
            that no choice has depended on.
        box: crop in pixels after EXIF rotation: left, top, right, bottom; None for the whole image.
        query: whether it may be a query when the test images are searched among themselves.
        gallery: whether it may be in the gallery when the test images are searched among themselves.
    """

    path: Path
    label: int
    split: Split = "train"
    box: tuple[int, int, int, int] | None = None
    query: bool = True
    gallery: bool = True


@dataclass(frozen=True, slots=True)
class Dataset:
    """The content of a source: class names in label order, and samples whose labels are indices into them."""

    name: str
    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """A batch of new classes to learn.

    Labels follow the order of learning: the classes of session t have the labels
    `first_label … first_label + len(classes) − 1`, which are also their rows in the head.

    Attributes:
        index: number of the session; 0 for the initial one.
        classes: names of the new classes.
        first_label: label of the first new class; also the number of classes learned before.
        train: training images of the new classes, and of known classes for methods that learn more images of them.
        test: test images of the same classes.
    """

    index: int
    classes: tuple[str, ...]
    first_label: int
    train: tuple[Sample, ...]
    test: tuple[Sample, ...] = ()

    @property
    def labels(self) -> range:
        """Labels of the new classes."""
        return range(self.first_label, self.first_label + len(self.classes))


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of images, as the network takes them.

    Attributes:
        images: uint8 (B, 3, H, W), RGB, not normalised (the embedder normalises); or the activations of the embedder's
            frozen part, float32 (B, C, h, w), which are its features (B, p) where all of the backbone is frozen.
        labels: int64 (B,).
        indices: int64 (B,), positions of the images in the list of samples that was loaded.
        failures: images of this batch that could not be decoded: path and reason.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    failures: tuple[tuple[str, str], ...] = ()

    def to(self, device: Any) -> Batch:
        """The same batch with its tensors on `device`."""
        return Batch(
            self.images.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.indices,
            self.failures,
        )


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of one embedding space with their labels.

    Attributes:
        vectors: float32 (N, d), unit rows.
        labels: int64 (N,).
        fingerprint: fingerprint of the space; vectors with different fingerprints must not be compared.
        indices: int64 (N,), positions in the list of samples that was embedded; undecodable images are missing.
        failures: images that could not be decoded: path and reason.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[np.int64]
    fingerprint: str
    indices: NDArray[np.int64]
    failures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TrunkFeatures:
    """Features that the trunk of a network takes of images, before the projection, with their labels.

    Attributes:
        features: float32 (N, p).
        labels: int64 (N,).
        era: identity of the trunk, its preprocessing included; features of different eras must not be compared.
        indices: int64 (N,), positions in the list of samples; undecodable images are missing.
        failures: images that could not be decoded: path and reason.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    era: str
    indices: NDArray[np.int64]
    failures: tuple[tuple[str, str], ...] = ()


class Losses(dict[str, "Tensor"]):
    """The weighted terms of an objective by name; the training loop logs them and differentiates their sum."""

    @property
    def total(self) -> Tensor:
        """Sum of all terms, a scalar."""
        terms = list(self.values())
        return sum(terms[1:], start=terms[0])


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search.

    Attributes:
        id: id of the item in the gallery.
        uri: location of its image when it was added.
        label: name of its class, or None.
        score: cosine similarity to the query, −1 … 1, in the space of `generation`.
        generation: name of the generation whose vectors were compared.
        metadata: metadata of the item.
        match: calibrated probability that item and query belong to the same class; None without a calibration.
    """

    id: str
    uri: str
    label: str | None
    score: float
    generation: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    match: float | None = None
