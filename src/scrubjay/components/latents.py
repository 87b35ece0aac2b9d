"""Stored activations of a network's frozen part, from which the rest of it can be trained again."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from scrubjay.components.resizable import Resizable

BATCH = 64


class Latents(Resizable):
    """Activations of images as `Embedder.prepare` gives them, as buffers; loading more or fewer resizes them.

    Attributes:
        values: float16 (N, D), one flattened activation a row.
        shape: int64 (k,), shape of an activation.
        labels: int64 (N,).
    """

    values: Tensor
    shape: Tensor
    labels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(0, 0, dtype=torch.float16))
        self.register_buffer("shape", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))

    def add(self, activations: Tensor, labels: Tensor) -> None:
        """Store activations.

        Args:
            activations: (B, …), all of the same shape.
            labels: int64 (B,).
        """
        rows = activations.flatten(1).to(self.values)
        self.shape = torch.tensor(activations.shape[1:], device=self.shape.device)
        self.values = torch.cat([self.values.reshape(-1, rows.shape[1]), rows])
        self.labels = torch.cat([self.labels, labels.to(self.labels)])

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All activations, float32, with their labels, in the order in which they were stored."""
        for start in range(0, len(self.labels), BATCH):
            yield self._rows(torch.arange(start, min(start + BATCH, len(self.labels))))

    def drawn(self, classes: int, each: int) -> tuple[Tensor, Tensor]:
        """Random activations of random classes, from torch's global generator.

        Args:
            classes: number of classes, if there are as many.
            each: number of activations of each class; some may be drawn twice.
        """
        known = torch.unique(self.labels)
        chosen = known[torch.randperm(len(known))[:classes]]
        members = [(self.labels == label).nonzero().flatten() for label in chosen]
        return self._rows(torch.cat([rows[torch.randint(len(rows), (each,))] for rows in members]))

    def _rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        rows = rows.to(self.labels.device)
        return self.values[rows].float().view(len(rows), *self.shape.tolist()), self.labels[rows]
