"""Smooth outlines, and the coordinate frames in which they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]
"""Shape (n, 2): x to the right, y down."""

_STEP = np.arange(8)[:, None] / 8
_CATMULL_ROM = 0.5 * np.hstack(
    [
        -_STEP + 2 * _STEP**2 - _STEP**3,
        2 - 5 * _STEP**2 + 3 * _STEP**3,
        _STEP + 4 * _STEP**2 - 3 * _STEP**3,
        -(_STEP**2) + _STEP**3,
    ]
)
_ANGLE = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], axis=1)


def _around(half: list[float], sign: int) -> Points:
    return np.array(half + [sign * value for value in half[-2::-1]])


_VANE = _around([0, 0.15, 0.35, 0.6, 0.78, 0.88, 0.95, 0.99, 1], 1)
_BLUNT = _around([0.55, 0.8, 0.96, 1, 0.94, 0.80, 0.56, 0.25, 0], -1)
_KEEN = _around([0.6, 0.85, 1, 0.92, 0.68, 0.44, 0.22, 0.05, 0], -1)


@dataclass(frozen=True, slots=True)
class Frame:
    """An affine map from local coordinates to the canvas: p ↦ A p + b."""

    matrix: Points
    origin: Points

    def __call__(self, points: ArrayLike) -> Points:
        """Local points (n, 2) on the canvas."""
        placed: Points = np.asarray(points, dtype=np.float64) @ self.matrix.T + self.origin
        return placed

    def inner(self, origin: ArrayLike, angle: float = 0, scale: ArrayLike = 1.0) -> Frame:
        """A frame within this one: moved to `origin`, turned clockwise by `angle` degrees, scaled by `scale`."""
        turn = np.deg2rad(angle)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        return Frame(self.matrix @ rotation * np.asarray(scale), self(origin))


def closed(points: ArrayLike) -> Points:
    """A closed Catmull–Rom spline through `points` (n, 2), 8 samples a segment."""
    p = np.asarray(points, dtype=np.float64)
    control = np.stack([np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0)])
    return _along(control)


def opened(points: ArrayLike) -> Points:
    """A Catmull–Rom spline through `points` (n, 2) from the first to the last."""
    p = np.asarray(points, dtype=np.float64)
    p = np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    control = np.stack([p[:-3], p[1:-2], p[2:-1], p[3:]])
    return np.concatenate([_along(control), p[-2:-1]])


def _along(control: Points) -> Points:
    """Samples of the segments whose four control points are `control` (4, n, 2), in order."""
    samples: Points = np.tensordot(control, _CATMULL_ROM, (0, 1)).transpose(0, 2, 1).reshape(-1, 2)
    return samples


def ellipse(x: float, y: float, a: float, b: float, angle: float = 0) -> Points:
    """An ellipse around (x, y) with half axes a and b, turned by `angle` degrees."""
    turn = np.deg2rad(angle)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    outline: Points = (_CIRCLE * (a, b)) @ rotation + (x, y)
    return outline


def stroke(points: ArrayLike, widths: ArrayLike) -> Points:
    """The outline of a brush stroke along `points` (n, 2); `widths` (n,) are half widths."""
    p = np.asarray(points, dtype=np.float64)
    along = np.empty_like(p)
    along[1:-1] = p[2:] - p[:-2]
    along[0], along[-1] = p[1] - p[0], p[-1] - p[-2]
    scale = np.asarray(widths, dtype=np.float64) / np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)
    across = along[:, ::-1] * (-1, 1) * scale[:, None]
    return np.concatenate([p + across, (p - across)[::-1]])


def feather(root: ArrayLike, tip: ArrayLike, width: float, point: float = 0.5) -> Points:
    """A feather from `root` to `tip`, `width` across; `point` 0 is round, 1 is pointed."""
    x, y = np.asarray(root, dtype=np.float64)
    dx, dy = np.asarray(tip, dtype=np.float64) - (x, y)
    side = (_BLUNT + (_KEEN - _BLUNT) * point) * (width / 2 / max(float(np.hypot(dx, dy)), 1e-9))
    return np.stack([x + _VANE * dx - side * dy, y + _VANE * dy + side * dx], axis=1)
