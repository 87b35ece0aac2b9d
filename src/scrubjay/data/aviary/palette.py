"""Named colours of feathers, so that the name of a species can say what it looks like."""

from __future__ import annotations

import math

Colour = tuple[int, int, int]

FEATHERS: dict[str, Colour] = {
    "white": (242, 240, 232),
    "cream": (236, 222, 186),
    "buff": (216, 182, 128),
    "ochre": (196, 146, 70),
    "yellow": (240, 206, 66),
    "golden": (226, 164, 44),
    "orange": (226, 122, 44),
    "rufous": (178, 90, 48),
    "chestnut": (122, 62, 42),
    "scarlet": (198, 50, 42),
    "rosy": (212, 104, 112),
    "brown": (120, 92, 68),
    "sooty": (66, 58, 54),
    "black": (36, 36, 42),
    "slate": (86, 98, 114),
    "grey": (142, 146, 150),
    "silver": (188, 192, 196),
    "olive": (118, 118, 66),
    "green": (88, 130, 66),
    "emerald": (38, 132, 94),
    "turquoise": (66, 164, 174),
    "blue": (58, 106, 176),
    "azure": (116, 168, 216),
    "violet": (104, 78, 150),
}

SCHEMES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    # upperparts, underparts, flight feathers, accents
    ("olive", "yellow", "sooty", ("black", "white", "orange", "slate", "chestnut")),
    ("blue", "silver", "slate", ("white", "black", "azure", "rufous", "brown")),
    ("brown", "cream", "sooty", ("scarlet", "chestnut", "white", "black", "grey")),
    ("chestnut", "buff", "sooty", ("white", "black", "grey", "rufous", "cream")),
    ("slate", "cream", "black", ("rufous", "yellow", "white", "black", "orange")),
    ("olive", "white", "brown", ("rufous", "ochre", "black", "grey", "yellow")),
    ("grey", "white", "black", ("azure", "yellow", "black", "chestnut", "buff")),
    ("rufous", "cream", "black", ("grey", "black", "white", "slate", "rosy")),
    ("emerald", "yellow", "slate", ("violet", "scarlet", "turquoise", "black", "golden")),
    ("brown", "white", "sooty", ("black", "rosy", "yellow", "rufous", "grey")),
    ("sooty", "grey", "black", ("golden", "violet", "white", "scarlet", "emerald")),
    ("slate", "orange", "sooty", ("white", "black", "azure", "blue", "cream")),
    ("turquoise", "rufous", "blue", ("white", "black", "orange", "emerald", "violet")),
    ("buff", "white", "brown", ("black", "yellow", "chestnut", "slate", "rufous")),
    ("rosy", "silver", "sooty", ("black", "white", "scarlet", "grey", "chestnut")),
    ("green", "golden", "sooty", ("turquoise", "chestnut", "black", "rosy", "blue")),
    ("green", "grey", "sooty", ("yellow", "white", "scarlet", "black", "orange")),
    ("azure", "white", "slate", ("black", "yellow", "violet", "rufous", "grey")),
)


def mix(a: Colour, b: Colour, amount: float) -> Colour:
    """`a` moved towards `b` by `amount`, 0 … 1."""
    red, green, blue = (round(x + (y - x) * amount) for x, y in zip(a, b, strict=True))
    return red, green, blue


def shade(colour: Colour, amount: float) -> Colour:
    """The colour made darker by a negative `amount` or lighter by a positive one, −1 … 1."""
    return mix(colour, (255, 253, 246) if amount > 0 else (14, 12, 16), abs(amount))


def distance(a: Colour, b: Colour) -> float:
    """Perceived difference of two colours: Euclidean distance with "redmean" weights."""
    mean = (a[0] + b[0]) / 2
    red, green, blue = ((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return math.sqrt((2 + mean / 256) * red + 4 * green + (2 + (255 - mean) / 256) * blue)
