"""Two halves of a session's images, so that settings are chosen on images that the statistics do not hold."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

HELD_OUT = 2000
"""Largest number of images that settings are chosen on."""


class Halves:
    """Assigns the images of each class to two halves in turn, and keeps the centre crops of the second half.

    Args:
        largest: largest number of centre crops that are kept.
    """

    def __init__(self, largest: int = HELD_OUT) -> None:
        self._largest = largest
        self._first: dict[int, bool] = {}
        self._turn: Counter[int] = Counter()
        self._kept: list[tuple[Tensor, int]] = []

    def halves(self, features: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
        """Which rows belong to images of the first half: bool (B,); the first row of an image is its centre crop."""
        for row, (label, position) in enumerate(zip(labels.tolist(), positions.tolist(), strict=True)):
            if position not in self._first:
                self._first[position] = self._turn[label] % 2 == 0
                self._turn[label] += 1
                if not self._first[position] and len(self._kept) < self._largest:
                    self._kept.append((features[row], label))
        return torch.tensor([self._first[position] for position in positions.tolist()], dtype=torch.bool)

    def centre_crops(self) -> tuple[Tensor, Tensor]:
        """Features (N, p) and labels int64 (N,) of centre crops of the second half."""
        features = [row for row, _ in self._kept]
        labels = torch.tensor([label for _, label in self._kept], dtype=torch.int64)
        return torch.stack(features) if features else torch.empty(0, 0), labels
