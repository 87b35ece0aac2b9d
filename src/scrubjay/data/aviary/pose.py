"""The pose of a bird: where it stands in the image, and how it holds its parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pose:
    """How a bird holds itself. Angles are in degrees, positions and lengths in pixels.

    Attributes:
        centre: centre of the body, (x, y).
        unit: one body length.
        mirrored: whether it faces left.
        tilt: added to the tilt of its body plan.
        nod: rotation of the head; positive looks down.
        turn: how far the head is turned out of the image plane, 0 … 1; the bill looks shorter.
        back: whether it looks over its shoulder.
        tail: added to the cock of its tail.
        droop: droop of the wing tip.
        slope: slope of the perch under its feet.
    """

    centre: tuple[float, float]
    unit: float
    mirrored: bool = False
    tilt: float = 0
    nod: float = 0
    turn: float = 0
    back: bool = False
    tail: float = 0
    droop: float = 0
    slope: float = 0
