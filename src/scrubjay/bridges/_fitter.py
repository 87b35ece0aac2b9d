"""Base class of the kinds of bridges: each fits a map to images that both networks have embedded."""

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


class BridgeFitter(ABC):
    """Fits a map from one network's vectors to another network's vectors of the same images.

    Attributes:
        rank: order of the kinds by complexity; simpler kinds have a smaller rank.
        resizes: whether the two spaces may differ in dimension.
        strengths: candidate strengths of the regularisation towards the identity, strongest first.
        default: strength used where none is selected.
        min_strength_without_gallery: smallest strength that may be selected when no item of the gallery was available
            for the fit, so that no old class was seen; by default no strength may.
    """

    rank: ClassVar[int]
    resizes: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]] = (0.0,)
    default: ClassVar[float] = 0.0
    min_strength_without_gallery: ClassVar[float] = np.inf

    @abstractmethod
    def fit(self, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[dict[str, Vectors]]:
        """Fit one map for each strength.

        Args:
            source: unit vectors (N, d), N ≥ 1.
            target: unit vectors (N, d') of the same images.
            strengths: strengths of the regularisation towards the identity.

        Returns:
            For each strength the tensors of a `Bridge`.
        """


def fitter(name: str) -> BridgeFitter:
    """The fitter of a kind of bridge.

    Raises:
        ConfigError: there is no such kind; the known names are listed.
    """
    instance: BridgeFitter = load("bridges", name, BridgeFitter)()
    return instance


def fit(kind: str, source: Vectors, target: Vectors) -> Bridge:
    """Fit one kind of bridge at its default strength.

    Args:
        kind: `identity`, `mean_shift`, `procrustes`, `ridge`, `ldc` or `mlp`.
        source: float32 (N, d), unit vectors of images by one network.
        target: float32 (N, d'), unit vectors of the same images by the other network.

    Raises:
        ConfigError: there is no such kind.
        DataError: the numbers of vectors differ or are zero, or a vector is not finite.
        SpaceError: the spaces differ in dimension and this kind cannot map between them.
    """
    return fit_all(kind, source, target, (fitter(kind).default,))[0]


def fit_all(kind: str, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[Bridge]:
    """As `fit`, with one bridge for each strength."""
    bridge_fitter = fitter(kind)
    source, target = (np.asarray(vectors, dtype=np.float32) for vectors in (source, target))
    if source.ndim != 2 or target.ndim != 2 or len(source) != len(target) or not len(source):
        shapes = f"{source.shape} and {target.shape}"
        raise DataError(f"bridge {kind}: vectors of shapes {shapes}; needed are (N, d) and (N, d') of the same N ≥ 1.")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise DataError(f"bridge {kind}: some vectors are not finite: leave them out.")
    if source.shape[1] != target.shape[1] and not bridge_fitter.resizes:
        sizes = f"{source.shape[1]} and {target.shape[1]} dimensions"
        raise SpaceError(f"bridge {kind}: spaces of {sizes} need another kind, such as ridge.")
    return [Bridge(kind, tensors) for tensors in bridge_fitter.fit(source, target, strengths)]


def padded(source: Vectors, target: Vectors) -> tuple[Vectors, Vectors]:
    """Both arrays, the narrower one padded with zeros to the width of the wider one."""
    width = max(source.shape[1], target.shape[1])
    source_padded, target_padded = (np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in (source, target))
    return source_padded, target_padded


def cut(weight: NDArray[np.floating], source: Vectors, target: Vectors) -> Vectors:
    """The part (d', d) of a square map that was fitted to `padded` vectors."""
    return np.ascontiguousarray(weight[: target.shape[1], : source.shape[1]], dtype=np.float32)
