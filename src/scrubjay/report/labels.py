"""Names beside the lines and points of a plot, placed so that they do not cover one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.transforms import Bbox

_SIZE = 9.5  # points


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in data coordinates, with the name to write beside it."""

    x: float
    y: float
    name: str
    colour: str


def label_ends(axes: Axes, marks: Sequence[Mark]) -> None:
    """Write names in the right margin at the height of their marks. The limits are final after it."""
    marks = sorted(marks, key=lambda mark: mark.y)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # the transforms know nothing of limits that are still to come
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
    """The colour, dark enough to be read on white."""
    return tuple(0.75 * part for part in to_rgb(colour))


def apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Places at least `gap` apart, in the order of the ascending `wanted` ones and near them, none above 1.

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


def label_points(axes: Axes, marks: Sequence[Mark]) -> None:
    """Write each name on the first free side of its mark. The limits are final after it."""
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    scale = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    centres = [axes.transData.transform((mark.x, mark.y)) for mark in marks]
    taken = [Bbox.from_bounds(x - 5 * scale, y - 5 * scale, 10 * scale, 10 * scale) for x, y in centres]
    for mark, (x, y) in zip(marks, centres, strict=True):
        width, height = 0.62 * _SIZE * len(mark.name) * scale, 1.1 * _SIZE * scale
        sides = [
            (
                h,
                v,
                Bbox.from_bounds(
                    x + h * 8 * scale + (h - 1) * width / 2, y + v * 8 * scale + (v - 1) * height / 2, width, height
                ),
            )
            for v, h in ((0, 1), (0, -1), (1, 0), (-1, 0), *product((1, -1), (1, -1)))
        ]
        free = [
            side
            for side in sides
            if not side[2].count_overlaps(taken) and axes.bbox.count_contains(side[2].corners()) == 4
        ]
        h, v, box = (free or sides)[0]
        taken.append(box)
        axes.annotate(
            mark.name,
            (mark.x, mark.y),
            (8 * h, 8 * v),
            textcoords="offset points",
            ha=("right", "center", "left")[h + 1],
            va=("top", "center", "bottom")[v + 1],
            color=_ink(mark.colour),
            fontsize=_SIZE,
            fontweight="bold",
        )
