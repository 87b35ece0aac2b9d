"""What the match decision of one generation needs: the classes, and the scores of images whose class is left out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from scrubjay.closed_form.no_match import ClassModel, left_out_threshold
from scrubjay.errors import CheckpointError
from scrubjay.models.checkpoint import load_tensors, save_tensors

DAMAGED = "delete it; the next `scrubjay add` writes it again"
_CLASS_MODEL = ("labels", "weight", "offset", "gram")


@dataclass(frozen=True, slots=True)
class MatchModel:
    """The learned classes of a generation, and the scores that tell which images are of one of them.

    Attributes:
        classes: the learned classes; labels are positions in the classes of the generation.
        left_out_scores: float64 (N,), best scores of images of learned classes, each as if its class were not learned.
        left_out_labels: int64 (N,), their classes.
        own_scores: float64 (M,), scores of held-out images for their own class.
    """

    classes: ClassModel
    left_out_scores: Tensor
    left_out_labels: Tensor
    own_scores: Tensor

    def threshold(self, false_match_rate: float) -> float | None:
        """The score that an image has to exceed; see `left_out_threshold`. None where nothing can be claimed.

        Args:
            false_match_rate: α in 0 … 1.
        """
        threshold = left_out_threshold(self.left_out_scores, self.left_out_labels, false_match_rate)
        return threshold if math.isfinite(threshold) else None

    def class_scores(self, features: Tensor) -> list[float | None]:
        """The scores of one image for the classes, by label; None for a label that is not in the model.

        Args:
            features: trunk features (1, p).
        """
        labels = self.classes.labels.tolist()
        scores: list[float | None] = [None] * (max(labels) + 1)
        for label, score in zip(labels, self.classes.scores(features)[0].tolist(), strict=True):
            scores[label] = score
        return scores

    def save(self, path: Path) -> None:
        """Write a safetensors file, which appears complete or not at all.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        tensors = {name: getattr(self.classes, name) for name in _CLASS_MODEL}
        # Float32 is as exact as the features of a query, and half as large.
        tensors["weight"] = self.classes.weight.float()
        scores = {name: getattr(self, name) for name in ("left_out_scores", "left_out_labels", "own_scores")}
        save_tensors(path, tensors | scores, {})

    @classmethod
    def load(cls, path: Path) -> MatchModel:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        tensors, _ = load_tensors(path, DAMAGED)
        try:
            labels, weight, offset, gram = (tensors.pop(name) for name in _CLASS_MODEL)
            model = cls(ClassModel(labels, weight.double(), offset, gram), **tensors)
            number = len(labels)
            fits = len(weight) == len(offset) == number > 0 and gram.shape == (number, number)
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: holds no match model ({error}): {DAMAGED}.") from None
        if not (fits and all(bool(torch.isfinite(each).all()) for each in (weight, offset, gram, *tensors.values()))):
            raise CheckpointError(f"{path}: its values are not finite, or of different shapes: {DAMAGED}.")
        return model
