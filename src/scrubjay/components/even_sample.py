"""An evenly spaced sample of a stream of rows whose length is not known in advance."""

from __future__ import annotations

import torch
from torch import Tensor


class EvenSample:
    """Keeps every row of a stream, then every second, every fourth and so on, so that there are never too many.

    Args:
        largest: largest number of rows that are kept.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._every, self._seen = 1, 0
        self._kept: tuple[Tensor, ...] | None = None

    def add(self, *columns: Tensor) -> None:
        """Add rows.

        Args:
            columns: tensors (B, …), each with a part of every row; in every call as many as in the first.
        """
        positions = torch.arange(self._seen, self._seen + len(columns[0]))
        self._seen += len(positions)
        rows = tuple(column[positions % self._every == 0] for column in columns)
        if self._kept is not None:
            rows = tuple(torch.cat(parts) for parts in zip(self._kept, rows, strict=True))
        while len(rows[0]) > self._largest:
            rows = tuple(column[::2] for column in rows)
            self._every *= 2
        self._kept = rows

    def columns(self) -> tuple[Tensor, ...]:
        """The rows that are kept, in their order, as the columns that were added; empty where nothing was."""
        return self._kept or ()
