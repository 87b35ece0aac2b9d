"""The head of a bird: profile, marks, bill and eye. Units are head radii, from its centre, with the bill towards +x."""

from __future__ import annotations

import numpy as np

from scrubjay.data.aviary.canvas import Sheet
from scrubjay.data.aviary.geometry import Frame, Points, closed, ellipse, opened
from scrubjay.data.aviary.palette import Colour, shade
from scrubjay.data.aviary.plans import Plan
from scrubjay.data.aviary.pose import Pose
from scrubjay.data.aviary.species import Plumage, Species

Point = tuple[float, float]

_EYE: Point = (0.34, -0.10)
_BIB: list[Point] = [(1.0, 0.22), (0.62, 0.34), (0.22, 0.58), (0.05, 1.02), (0.45, 1.32), (1.2, 1.0)]
_CHEEK: list[Point] = [
    (0.86, 0.02),
    (0.60, 0.30),
    (0.15, 0.58),
    (-0.42, 0.56),
    (-0.72, 0.22),
    (-0.42, -0.08),
    (0.3, -0.22),
]
_CAP_EDGE: list[Point] = [(0.98, -0.10), (0.62, -0.26), (0.1, -0.36), (-0.45, -0.32), (-0.90, -0.06)]
_CAP: list[Point] = [*_CAP_EDGE, (-1.5, -0.6), (-1.4, -1.7), (0.1, -1.6), (1.05, -0.9)]
_STRIPE: list[Point] = [(0.92, -0.36), (0.55, -0.66), (0.05, -0.82), (-0.5, -0.68), (-0.9, -0.3)]
_BROW: list[Point] = [(0.90, -0.16), (0.52, -0.34), (0.0, -0.42), (-0.5, -0.30), (-0.82, -0.06)]


def profile(plan: Plan) -> Points:
    """Outline of the head (n, 2) from the nape over crown, forehead and bill to the throat."""
    crest = plan.crest
    rear = [(-0.93, 0.42), (-0.95, -0.26)]
    tuft = (
        [(-0.98 - 0.35 * crest, -0.62 - 0.75 * crest), (-0.55, -0.86 - 0.30 * crest)] if crest > 0 else [(-0.62, -0.78)]
    )
    return np.array([*rear, *tuft, (-0.05, -0.98), (0.52, -0.78), (0.90, -0.26), (0.90, 0.30), (0.66, 0.72)])


def marks(sheet: Sheet, plumage: Plumage, head: Frame, radius: float) -> None:
    """Draw bib, collar, cheek, cap, crown stripe, eye line, brow and whisker; `radius` of the head is in pixels."""

    def band(points: list[Point], widths: tuple[float, ...], colour: Colour | None) -> None:
        if colour is not None:
            line = head(opened(points))
            ends = np.linspace(0, 1, len(widths))
            sheet.line(line, radius * np.interp(np.linspace(0, 1, len(line)), ends, widths), colour)

    sheet.fill(head(closed(_BIB)), plumage.throat)
    band([(-1.25, 0.15), (-0.80, 0.55), (-0.35, 1.0)], (0.26, 0.24, 0.08), plumage.nape)
    sheet.fill(head(closed(_CHEEK)), plumage.cheek)
    sheet.fill(head(closed(_CAP)), plumage.crown)
    band(_STRIPE, (0.06, 0.15, 0.17, 0.14, 0.08), plumage.stripe)
    band([(0.92, 0.06), (0.45, -0.08), (-0.1, -0.02), (-0.8, 0.16)], (0.05, 0.12, 0.17, 0.05), plumage.eyeline)
    band(_BROW, (0.05, 0.10, 0.13, 0.11, 0.02), plumage.brow)
    band([(0.78, 0.36), (0.46, 0.60), (0.10, 0.92)], (0.04, 0.12, 0.05), plumage.malar)


def eye(sheet: Sheet, plumage: Plumage, head: Frame, pose: Pose) -> None:
    """Draw the eye ring, lid, iris, pupil and its highlight."""
    x, y = _EYE[0] - 0.10 * pose.turn, _EYE[1]
    if plumage.ring is not None:
        sheet.fill(head(ellipse(x, y, 0.285, 0.275)), plumage.ring)
    sheet.fill(head(ellipse(x, y, 0.200, 0.192)), shade(plumage.cheek, -0.72))
    sheet.fill(head(ellipse(x, y, 0.172, 0.167)), plumage.iris)
    sheet.fill(head(ellipse(x + 0.01, y, 0.118, 0.116)), (14, 12, 14))
    light = head([(x, y)]) + pose.unit * np.array([0.010, -0.015])
    sheet.fill(light + ellipse(0, 0, 0.0125 * pose.unit, 0.0125 * pose.unit), (255, 255, 255))


def bill(sheet: Sheet, species: Species, head: Frame, pose: Pose) -> None:
    """Draw the two mandibles, the line between them and a highlight along the ridge."""
    length, depth, droop = species.plan.bill
    length *= 1 - 0.45 * pose.turn
    root, gape = 0.84, 0.08
    tip = (root + length, gape + 0.02 + droop * length * 0.6)
    middle = (root + 0.52 * length, gape + 0.12 * droop * length)
    ridge = opened([(root - 0.04, gape - 0.58 * depth), (middle[0], middle[1] - 0.36 * depth), tip])
    line = opened([tip, middle, (root - 0.08, gape)])
    hook = [(tip[0] + 0.02, tip[1] + 0.12), (tip[0] - 0.07, tip[1] + 0.01)] if species.plan.hook else []
    low = (tip[0] - 0.06 * length, tip[1])
    keel = opened([low, (middle[0], middle[1] + 0.30 * depth), (root - 0.04, gape + 0.40 * depth)])
    edge = opened([(root - 0.08, gape), middle, low])
    radius = pose.unit * species.plan.head
    colour, mandible = species.plumage.bill, species.plumage.mandible
    sheet.fill(head(np.vstack([edge, keel])), shade(mandible, -0.12))
    sheet.fill(head(np.vstack([ridge, *([hook] if hook else []), line])), colour)
    shine = ridge * (1, 0.5) + line[::-1][: len(ridge)] * (0, 0.5)
    sheet.line(head(shine[3:-3]), radius * 0.05 * depth * np.ones(len(shine) - 6), shade(colour, 0.30))
    sheet.line(head(edge), radius * 0.022 * np.ones(len(edge)), shade(colour, -0.55))
    nostril = (root + 0.18 * length, gape - 0.26 * depth)
    sheet.fill(head(ellipse(*nostril, 0.05, 0.028)), shade(colour, -0.6))
