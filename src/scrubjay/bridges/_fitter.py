"""What a kind of bridge is: how it is fitted to images that both networks have seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from scrubjay.bridges._bridge import Bridge
from scrubjay.errors import DataError, SpaceError
from scrubjay.plugins import load

Vectors = NDArray[np.float32]


class Kind(ABC):
    """One way to fit a map from the vectors of one network to those of another, of the same images.

    Attributes:
        rank: simpler kinds have a smaller one.
        resizes: whether the two spaces may differ in dimension.
        strengths: how strongly the map may be drawn towards the identity, strongest first.
        default: the one that counts where none is chosen.
        blind: the least at which old classes may be carried though none was seen; none by default.
    """

    rank: ClassVar[int]
    resizes: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]] = (0.0,)
    default: ClassVar[float] = 0.0
    blind: ClassVar[float] = np.inf

    @abstractmethod
    def fit(self, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[dict[str, Vectors]]:
        """For each strength the tensors of a `Bridge`, from unit vectors (N, d) and (N, d') of the same N ≥ 1."""


def kind_of(name: str) -> Kind:
    """The kind of this name.

    Raises:
        ConfigError: there is none; the known names are listed.
    """
    found: Kind = load("bridges", name, Kind)()
    return found


def fit(kind: str, source: Vectors, target: Vectors) -> Bridge:
    """Fit one kind of bridge, at its default strength.

    Args:
        kind: `identity`, `mean_shift`, `procrustes`, `ridge`, `ldc` or `mlp`.
        source: float32 (N, d) unit vectors of images by one network.
        target: float32 (N, d') of the same images by the other.

    Raises:
        ConfigError: there is no such kind.
        DataError: the two are not of the same images, there is none, or a vector is not finite.
        SpaceError: the spaces differ in dimension and this kind cannot bridge that.
    """
    return fit_all(kind, source, target, (kind_of(kind).default,))[0]


def fit_all(kind: str, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[Bridge]:
    """As `fit`, one for each strength."""
    found = kind_of(kind)
    source, target = (np.asarray(vectors, dtype=np.float32) for vectors in (source, target))
    if source.ndim != 2 or target.ndim != 2 or len(source) != len(target) or not len(source):
        shapes = f"{source.shape} and {target.shape}"
        raise DataError(f"bridge {kind}: vectors of shapes {shapes}; needed are (N, d) and (N, d') of the same N ≥ 1.")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise DataError(f"bridge {kind}: some vectors are not finite: leave them out.")
    if source.shape[1] != target.shape[1] and not found.resizes:
        sizes = f"{source.shape[1]} and {target.shape[1]} dimensions"
        raise SpaceError(f"bridge {kind}: spaces of {sizes} need another kind, such as ridge.")
    return [Bridge(kind, tensors) for tensors in found.fit(source, target, strengths)]


def squared(source: Vectors, target: Vectors) -> tuple[Vectors, Vectors]:
    """Both with as many columns as the wider one: zeros are added."""
    width = max(source.shape[1], target.shape[1])
    one, other = (np.pad(each, ((0, 0), (0, width - each.shape[1]))) for each in (source, target))
    return one, other


def cut(weight: NDArray[np.floating], source: Vectors, target: Vectors) -> Vectors:
    """The part (d', d) of a map that was fitted to what `squared` gave."""
    return np.ascontiguousarray(weight[: target.shape[1], : source.shape[1]], dtype=np.float32)
