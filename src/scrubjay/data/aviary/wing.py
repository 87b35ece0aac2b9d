"""The folded wing: flight feathers under three rows of coverts, each feather with a pale edge."""

from __future__ import annotations

import numpy as np

from scrubjay.data.aviary.canvas import Sheet
from scrubjay.data.aviary.geometry import Frame, Points, closed, feather
from scrubjay.data.aviary.palette import Colour, shade
from scrubjay.data.aviary.plans import Plan
from scrubjay.data.aviary.species import Plumage

_JOINT = np.array([0.2, -0.05])


def wing(sheet: Sheet, plumage: Plumage, plan: Plan, frame: Frame) -> None:
    """Draw the near wing; the origin of `frame` is the shoulder joint."""

    def vane(
        root: Points, tip: Points, width: float, colours: tuple[Colour, Colour, Colour | None], point: float
    ) -> None:
        fill, edge, end = colours
        root, tip = root - _JOINT, tip - _JOINT
        sheet.fill(frame(feather(root, tip, width, point)), shade(fill, -0.45))
        sheet.fill(frame(feather(root, tip + (tip - root) * -0.02, width * 0.90, point)), end or edge)
        inner = root + (tip - root) * (0.74 if end else 0.95)
        sheet.fill(frame(feather(root - (0, 0.004), inner - (0, 0.005), width * 0.66, point)), fill)

    dark, edge, coverts = plumage.flight, plumage.edges, plumage.coverts
    reach = 0.60 + plan.wing
    for i in range(6):
        tip = np.array([-reach + 0.065 * i * (reach / 0.75), 0.050 + 0.010 * i])
        vane(np.array([0.02, 0.05]), tip, 0.075, (shade(dark, -0.1), shade(edge, -0.05), None), 0.75)
    for i in range(6):
        tip = np.array([-0.46 + 0.035 * i, 0.085 - 0.044 * i])
        vane(np.array([0.08, 0.05 - 0.035 * i]), tip, 0.082, (shade(dark, 0.03 * i), edge, None), 0.25)
    greater, median = plumage.bars
    for tip in np.linspace((-0.055, 0.125 * plan.depth), (-0.20, -0.135), 7):
        vane(tip - (-0.20, 0.03), tip, 0.068, (coverts, shade(edge, 0.05), greater), 0.2)
    for tip in np.linspace((0.065, 0.11 * plan.depth), (-0.06, -0.15), 6):
        vane(tip - (-0.15, 0.03), tip, 0.072, (shade(coverts, 0.04), shade(edge, 0.02), median), 0.1)
    _shoulder(sheet, plumage, frame, plan.depth)


def _shoulder(sheet: Sheet, plumage: Plumage, frame: Frame, deep: float) -> None:
    """Draw the small feathers of the shoulder, and the long feathers of the back that cover a part of the wing."""
    for t, row in ((0.0, 5), (0.5, 5), (1.0, 4)):
        start, stop = np.array([0.13 + 0.07 * t, 0.085 * deep]), np.array([0.03 + 0.07 * t, -0.16])
        for u in np.linspace(0.05, 0.95, row):
            tip = start + (stop - start) * u - _JOINT
            root = tip - (-0.12, 0.02)
            sheet.fill(frame(feather(root, tip, 0.085, 0.0)), shade(plumage.shoulder, -0.16))
            sheet.fill(frame(feather(root, tip - (-0.010, 0.002), 0.078, 0.0)), plumage.shoulder)
    mantle = [(0.20, -0.20), (0.05, -0.135), (-0.12, -0.115), (-0.28, -0.10), (-0.20, -0.17), (0.0, -0.21)]
    sheet.fill(frame(closed(mantle) - _JOINT), plumage.upper)
