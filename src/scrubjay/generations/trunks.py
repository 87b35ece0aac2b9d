"""The backbones of generations on disk, each stored once for all generations that share its weights.

trunks/0f3c….safetensors   the tensors of a backbone; the file is named after their hash
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from scrubjay.errors import CheckpointError
from scrubjay.models.checkpoint import load_tensors, save_tensors

PREFIX = "embedder.backbone."
"""Beginning of the names of a backbone's tensors in the state of a network."""
RESTORE = "restore it from a copy; generations with other backbones are untouched"


class Trunks:
    """The backbones in a folder. A file appears complete or not at all, and never changes.

    Args:
        folder: folder of the files; it is created when the first backbone is stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Path of the file of a backbone."""
        return self.folder / f"{name}.safetensors"

    def paths(self) -> list[Path]:
        """Paths of all files, in the order of their names."""
        return sorted(self.folder.glob("*.safetensors"))

    def put(self, tensors: Mapping[str, Tensor]) -> str:
        """Store the tensors of a backbone, unless an intact file of the same tensors exists.

        Returns:
            The name that `get` takes: a hash of names, shapes, types and values, 32 hexadecimal digits.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        name = _digest(tensors)
        try:
            self.check(name)
        except CheckpointError:
            save_tensors(self.path(name), tensors, {"trunk": name})
        return name

    def get(self, name: str) -> dict[str, Tensor]:
        """The tensors of a backbone.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        return load_tensors(self.path(name), RESTORE)[0]

    def check(self, name: str) -> None:
        """Make sure that the file of a backbone holds the tensors that it is named after.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        if _digest(self.get(name)) != name:
            raise CheckpointError(f"{self.path(name)}: damaged (its content does not match its name): {RESTORE}.")


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for key, value in sorted(tensors.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
