"""Frozen values that cross floors. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sample:
    """One image on disk and what it shows.

    Attributes:
        path: the image file.
        label: index into the `classes` of the dataset or stream that holds the sample.
        split: "train" images are learned from; "test" images are only ever evaluated on.
        box: crop in pixels after EXIF rotation: left, top, right, bottom; None for the whole image.
        query: may be a query when the test images are searched among themselves.
        gallery: may be in the gallery when the test images are searched among themselves.
    """

    path: Path
    label: int
    split: Literal["train", "test"] = "train"
    box: tuple[int, int, int, int] | None = None
    query: bool = True
    gallery: bool = True


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a source delivers: names of classes in label order, and samples that point into them."""

    name: str
    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """One batch of new classes to learn.

    Labels follow the order of learning: the classes of session t have the labels
    `first_label … first_label + len(classes) − 1`, which are the rows of the head.

    Attributes:
        index: 0 for the initial session.
        classes: names of the classes that are new in this session.
        first_label: label of the first of them; also the number of classes learned before.
        train: images to learn from, of the new classes only.
        test: images to evaluate on, of the new classes only.
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
    """Images as the network takes them.

    Attributes:
        images: uint8 (B, 3, H, W), RGB, not normalised: the embedder normalises.
        labels: int64 (B,).
        indices: int64 (B,), the positions of the images in the list of samples that was loaded.
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
    """Vectors of one embedding space, with the labels of what they show.

    Attributes:
        vectors: float32 (N, d), unit rows.
        labels: int64 (N,).
        fingerprint: of the space; vectors of two fingerprints must not be compared.
        indices: int64 (N,), positions in the list of samples that was embedded (undecodable images are missing).
        failures: images that could not be decoded: path and reason.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[np.int64]
    fingerprint: str
    indices: NDArray[np.int64]
    failures: tuple[tuple[str, str], ...] = ()


class Losses(dict[str, "Tensor"]):
    """The terms of an objective by name, already weighted: what a loop sums, differentiates and logs."""

    @property
    def total(self) -> Tensor:
        """Sum of all terms, a scalar."""
        terms = list(self.values())
        return sum(terms[1:], start=terms[0])


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search.

    Attributes:
        id: of the item in the gallery.
        uri: where its image is, or was.
        label: name of its class, or None.
        score: cosine similarity to the query, −1 … 1, in the space of `generation`.
        generation: the generation whose vectors were compared.
        metadata: what was stored with the item.
        match: calibrated probability that item and query are of one class; None where nothing was calibrated.
    """

    id: str
    uri: str
    label: str | None
    score: float
    generation: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    match: float | None = None
