"""Maps between the embedding spaces of two generations: one file a kind, each fitted on pictures that both have seen.

A bridge takes unit vectors of one space to unit vectors of the other. Its file's name is its kind; the file holds
`fit(source, target)`, which gives its tensors, and `apply(tensors, vectors)`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scrubjay import plugins
from scrubjay.errors import CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("identity", "mean_shift", "procrustes", "ridge", "ldc", "mlp")
"""What is tried, the simplest first."""

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Bridge:
    """A map from one embedding space to another.

    Attributes:
        kind: file name of how it was fitted, or "chain" for several, one after the other.
        tensors: what it is made of, by name.
        parts: of a chain.
    """

    kind: str
    tensors: Tensors = field(default_factory=dict)
    parts: tuple[Bridge, ...] = ()

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (N, d), unit rows of one space → float32 (N, d′), unit rows of the other."""
        if self.kind == "chain":
            return reduce(lambda found, part: part(found), self.parts, vectors)
        if self.kind == "identity":
            return vectors
        return normalised(_module(self.kind).apply(self.tensors, np.asarray(vectors, dtype=np.float32)))


@dataclass(frozen=True)
class Judged:
    """The same pictures as two networks see them.

    Attributes:
        source: float32 (N, d), unit rows.
        target: float32 (N, d′), unit rows.
        labels: int64 (N,).
    """

    source: NDArray[np.float32]
    target: NDArray[np.float32]
    labels: NDArray[np.int64]

    def reversed(self) -> Judged:
        """The way back."""
        return Judged(self.target, self.source, self.labels)

    def where(self, mask: NDArray[np.bool_]) -> Judged:
        """Some of the pictures."""
        return Judged(self.source[mask], self.target[mask], self.labels[mask])


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        bridge: the best.
        figures: of every candidate, by its kind: see `scrubjay.bridges.choosing`.
    """

    bridge: Bridge
    figures: dict[str, dict[str, float]]


def fit(kind: str, source: NDArray[np.float32], target: NDArray[np.float32]) -> Bridge:
    """A bridge of a kind, from pictures that both networks have seen.

    Args:
        kind: one of the file names here.
        source: float32 (N, d), unit rows, N ≥ 1.
        target: float32 (N, d′), unit rows, of the same pictures.

    Raises:
        ConfigError: the kind is unknown.
        DataError: there is no picture, or the kind cannot change the dimension.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown bridge {kind!r}. Known: {', '.join(KINDS)}.")
    if not len(source) or len(source) != len(target):
        raise DataError(f"a bridge from {len(source)} and {len(target)} vectors; needed are two of each picture.")
    if source.shape[1] != target.shape[1] and not changes_dimension(kind):
        raise DataError(
            f"a bridge of kind {kind!r} cannot lead from {source.shape[1]} to {target.shape[1]} dimensions."
        )
    module = _module(kind)
    return Bridge(kind, {} if kind == "identity" else module.fit(np.asarray(source), np.asarray(target)))


def changes_dimension(kind: str) -> bool:
    """Whether bridges of a kind can lead to a space of another dimension."""
    return bool(_module(kind).CHANGES_DIMENSION)


def compose(*bridges: Bridge) -> Bridge:
    """One bridge after the other; none of them is the identity."""
    parts = [part for bridge in bridges for part in (bridge.parts if bridge.kind == "chain" else (bridge,))]
    parts = [part for part in parts if part.kind != "identity"]
    if not parts:
        return Bridge("identity")
    return parts[0] if len(parts) == 1 else Bridge("chain", parts=tuple(parts))


def choose(
    fitted_on: Judged, held_out: Judged, *, extra: Mapping[str, Bridge] | None = None, sample: Judged | None = None
) -> Choice:
    """Fit all kinds and keep the best by measurement; see `scrubjay.bridges.choosing`."""
    from scrubjay.bridges.choosing import choose as chosen

    return chosen(fitted_on, held_out, extra or {}, sample)


def learned(tensors: Mapping[str, Tensor]) -> Bridge | None:
    """The map from the new space to the old that the method `projection` has learned; None where there is none.

    Args:
        tensors: of the method, those of the map under names that begin with "bridge.".
    """
    own = {key.removeprefix("bridge."): value.float().cpu().numpy() for key, value in tensors.items()}
    if "hidden.weight" in own:
        names = {"hidden.weight": "W1", "hidden.bias": "b1", "out.weight": "W2", "out.bias": "b2"}
        return Bridge("mlp", {names[key]: value for key, value in own.items() if key in names})
    if "weight" in own:
        offset = own.get("bias", np.zeros(len(own["weight"]), dtype=np.float32))
        return Bridge("ldc", {"A": own["weight"], "b": offset})
    return None


def save(path: Path, bridges: Mapping[str, Bridge]) -> None:
    """Write bridges by name, whole or not at all."""
    import torch

    from scrubjay.models.checkpoint import save_tensors

    tensors: dict[str, Tensor] = {}
    info: dict[str, Any] = {}
    for name, bridge in bridges.items():
        parts = bridge.parts or (bridge,)
        info[name] = [part.kind for part in parts]
        for number, part in enumerate(parts):
            for key, value in part.tensors.items():
                tensors[f"{name}.{number}.{key}"] = torch.from_numpy(np.array(value, dtype=np.float32))
    save_tensors(path, tensors, {"bridges": info})


def load(path: Path) -> dict[str, Bridge]:
    """Read what `save` wrote.

    Raises:
        CheckpointError: the file is damaged, or of a kind that this version does not know.
    """
    from scrubjay.models.checkpoint import load_tensors

    tensors, info = load_tensors(path, "restore it from a copy, or learn this generation again")
    found = {}
    for name, kinds in info.get("bridges", {}).items():
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise CheckpointError(f"{path}: a bridge of the unknown kind {unknown[0]!r}; upgrade scrubjay.")
        parts = [Bridge(kind, _of(tensors, f"{name}.{number}.")) for number, kind in enumerate(kinds)]
        found[name] = compose(*parts)
    return found


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows brought to unit norm; a row of zeros, which has no direction, becomes the first axis."""
    array = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(array, axis=1, keepdims=True)
    axis = np.zeros(array.shape[1], dtype=np.float32)
    axis[:1] = 1
    return np.where(norms > 1e-12, array / np.maximum(norms, 1e-12), axis).astype(np.float32)


def _of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, NDArray[np.float32]]:
    return {key.removeprefix(prefix): value.numpy() for key, value in tensors.items() if key.startswith(prefix)}


def _module(kind: str) -> Any:
    return import_module(f"scrubjay.bridges.{kind}")


def kinds() -> Sequence[str]:
    """Names of all kinds, sorted."""
    return [name for name in plugins.names("bridges") if name != "choosing"]
