"""Names beside the lines and points of a plot, placed so that they do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

_SIZE = 9.5  # points
_GAPS = (8, 20, 34, 50, 70, 95, 125)  # points from the middle of a mark to its name; the first needs no line
_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), *product((1, -1), (1, -1)))


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in data coordinates, with the name to write beside it."""

    x: float
    y: float
    name: str
    colour: str


def label_ends(axes: Axes, marks: Sequence[Mark]) -> None:
    """Write names in the right margin at the height of their marks. The limits of the axes are fixed by this."""
    marks = sorted(marks, key=lambda mark: mark.y)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # the transforms need final limits
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = [float(to_axes.transform((mark.x, mark.y))[1]) for mark in marks]
    for mark, height in zip(marks, apart(wanted, gap=0.075), strict=True):
        axes.annotate(
            mark.name,
            (mark.x, mark.y),
            (1.04, height),
            textcoords=axes.transAxes,
            va="center",
            color=_ink(mark.colour),
            fontsize=_SIZE,
            fontweight="bold",
            arrowprops={
                "arrowstyle": "-",
                "color": mark.colour,
                "linewidth": 0.7,
                "alpha": 0.6,
                "shrinkA": 1,
                "shrinkB": 4,
            },
        )


def _ink(colour: str) -> tuple[float, ...]:
    """The colour, darkened so that text in it is readable on white."""
    return tuple(0.75 * part for part in to_rgb(colour))


def apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Heights at least `gap` apart, in the order of the ascending `wanted` heights and near them, none above 1.

    >>> apart([0.2, 0.2, 0.9], gap=0.1)
    [0.2, 0.3, 0.9]
    """
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + gap) if places else place)
    ceiling = 1.0
    for i in reversed(range(len(places))):
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - gap
    return [round(place, 6) for place in places]


def label_points(figure: Figure, axes: Axes, marks: Sequence[Mark]) -> None:
    """Write each name on the nearest free side of its mark, with a line to it where it is further away.

    The limits of the axes are fixed by this.
    """
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    scale = figure.dpi / 72
    centres = [axes.transData.transform((mark.x, mark.y)) for mark in marks]
    taken = [_box(x, y, 10 * scale, 10 * scale) for x, y in centres]
    for mark, (x, y) in zip(marks, centres, strict=True):
        width, height = 0.66 * _SIZE * len(mark.name) * scale, 1.2 * _SIZE * scale
        places = {
            (h, v, gap): _box(x + h * (gap * scale + width / 2), y + v * (gap * scale + height / 2), width, height)
            for gap in _GAPS
            for h, v in _SIDES
        }
        free = [place for place, box in places.items() if not box.count_overlaps(taken) and _inside(axes, box)]
        place = (free or list(places))[0]
        taken.append(places[place])
        _write(axes, mark, *place)


def _write(axes: Axes, mark: Mark, h: int, v: int, gap: float) -> None:
    line = {"arrowstyle": "-", "color": mark.colour, "linewidth": 0.7, "alpha": 0.6, "shrinkA": 0, "shrinkB": 4}
    axes.annotate(
        mark.name,
        (mark.x, mark.y),
        (gap * h, gap * v),
        textcoords="offset points",
        ha=("right", "center", "left")[h + 1],
        va=("top", "center", "bottom")[v + 1],
        color=_ink(mark.colour),
        fontsize=_SIZE,
        fontweight="bold",
        arrowprops=line if gap > _GAPS[0] else None,
    )


def _box(x: float, y: float, width: float, height: float) -> Bbox:
    return Bbox.from_bounds(x - width / 2, y - height / 2, width, height)


def _inside(axes: Axes, box: Bbox) -> bool:
    return bool(axes.bbox.count_contains(box.corners()) == 4)
