"""Bridges on disk, and the bridge that a method learned with the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scrubjay.bridges._bridge import Bridge
from scrubjay.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_CURE = "restore it from a copy of the catalogue, or learn the generation again"
_LEARNED = ("weight", "bias", "hidden.weight", "hidden.bias", "out.weight", "out.bias")


def save(path: Path, bridges: Mapping[str, Bridge]) -> None:
    """Write bridges by name to one file, atomically.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    import torch

    from scrubjay.models.checkpoint import save_tensors

    tensors = {
        f"{name}/{key}": torch.from_numpy(np.ascontiguousarray(value))
        for name, bridge in bridges.items()
        for key, value in bridge.tensors.items()
    }
    save_tensors(path, tensors, {name: bridge.kind for name, bridge in bridges.items()})


def load(path: Path) -> dict[str, Bridge]:
    """Read what `save` wrote.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    from scrubjay.models.checkpoint import load_tensors

    tensors, kinds = load_tensors(path, _CURE)
    parts: dict[str, dict[str, np.ndarray]] = {name: {} for name in kinds}
    for key, value in tensors.items():
        name, _, rest = key.partition("/")
        if name not in parts:
            raise CheckpointError(f"{path}: tensor {key!r} belongs to no bridge listed in the file's header: {_CURE}.")
        parts[name][rest] = value.numpy()
    return {name: Bridge(kind, parts[name]) for name, kind in kinds.items()}


def learned(tensors: Mapping[str, Tensor]) -> Bridge | None:
    """The map from the new space to the old one that the method `projection` learned with the network.

    Args:
        tensors: the method's state; only tensors named `bridge.*` are used.

    Returns:
        A linear or affine map, a rotation, or an MLP added to the identity; None if the method learned no bridge.
    """
    state = {key.removeprefix("bridge."): value for key, value in tensors.items() if key.startswith("bridge.")}
    arrays = {key: state[key].detach().float().cpu().numpy() for key in _LEARNED if key in state}
    return Bridge("projection", arrays) if arrays else None
