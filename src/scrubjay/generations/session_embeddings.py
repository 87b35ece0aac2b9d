"""Embeddings of a session's images by the generation that learned them and by its parent."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SplitEmbeddings:
    """Embeddings of the images of one split.

    Attributes:
        labels: int64 (N,), rows of the head.
        paths: paths of the N images.
        new: float32 (N, d), by the generation that learned the session.
        old: float32 (N, d'), by its parent; None where it has no parent.
    """

    labels: NDArray[np.int64]
    paths: tuple[str, ...]
    new: NDArray[np.float32]
    old: NDArray[np.float32] | None

    def where(self, rows: Sequence[int]) -> SplitEmbeddings:
        """The images in these rows."""
        old = None if self.old is None else self.old[rows]
        return SplitEmbeddings(self.labels[rows], tuple(self.paths[row] for row in rows), self.new[rows], old)


@dataclass(frozen=True, slots=True)
class SessionEmbeddings:
    """Embeddings of both splits of a session; None for a split without images, or where nothing was stored.

    Attributes:
        train: of images that were learned from.
        test: of held-out images.
    """

    train: SplitEmbeddings | None = None
    test: SplitEmbeddings | None = None

    def __len__(self) -> int:
        """Number of images of both splits."""
        return sum(0 if split is None else len(split.labels) for split in (self.train, self.test))

    def without(self, names: Sequence[str], classes: Collection[str], paths: Collection[str]) -> SessionEmbeddings:
        """The embeddings without those of some classes, and of single images by their paths.

        Args:
            names: names of the classes, by label.
            classes: names of the classes that are left out.
            paths: paths of the images that are left out.
        """
        splits: dict[str, SplitEmbeddings] = {}
        for name in ("train", "test"):
            split: SplitEmbeddings | None = getattr(self, name)
            if split is None:
                continue
            entries = enumerate(zip(split.labels.tolist(), split.paths, strict=True))
            kept = [row for row, (label, path) in entries if names[label] not in classes and path not in paths]
            if kept:
                splits[name] = split.where(kept)
        return SessionEmbeddings(**splits)

    def to_tensors(self) -> dict[str, Tensor]:
        """Tensors by name, for a safetensors file; paths are stored as bytes."""
        tensors: dict[str, Tensor] = {}
        for name in ("train", "test"):
            split: SplitEmbeddings | None = getattr(self, name)
            if split is None:
                continue
            tensors[f"{name}.new"] = torch.from_numpy(split.new)
            if split.old is not None:
                tensors[f"{name}.old"] = torch.from_numpy(split.old)
            tensors[f"{name}.labels"] = torch.from_numpy(split.labels)
            joined = os.fsencode("\0".join(split.paths))
            tensors[f"{name}.paths"] = torch.frombuffer(bytearray(joined), dtype=torch.uint8)
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> SessionEmbeddings:
        """The inverse of `to_tensors`."""
        splits = {}
        for name in ("train", "test"):
            if f"{name}.new" in tensors:
                old = tensors.get(f"{name}.old")
                splits[name] = SplitEmbeddings(
                    tensors[f"{name}.labels"].numpy(),
                    tuple(os.fsdecode(tensors[f"{name}.paths"].numpy().tobytes()).split("\0")),
                    tensors[f"{name}.new"].numpy(),
                    None if old is None else old.numpy(),
                )
        return cls(**splits)
