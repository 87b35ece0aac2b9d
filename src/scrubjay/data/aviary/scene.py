"""The scene around a bird: a background out of focus, a perch, and leaves in front."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from scrubjay.data.aviary.canvas import Sheet
from scrubjay.data.aviary.geometry import Points, closed, opened
from scrubjay.data.aviary.palette import Colour, mix, shade

_BACKDROPS: tuple[tuple[str, Colour, Colour, Colour], ...] = (
    # kind, top, bottom, highlights
    ("sky", (134, 178, 220), (214, 228, 236), (246, 248, 250)),
    ("sky", (186, 200, 210), (226, 226, 222), (240, 240, 238)),
    ("sky", (226, 182, 150), (246, 222, 182), (255, 238, 206)),
    ("bokeh", (72, 104, 52), (42, 66, 36), (168, 192, 96)),
    ("bokeh", (122, 142, 86), (88, 112, 62), (214, 218, 150)),
    ("bokeh", (52, 74, 64), (30, 46, 44), (104, 146, 118)),
    ("bokeh", (158, 104, 52), (96, 66, 40), (232, 172, 84)),
    ("bokeh", (196, 152, 160), (120, 128, 96), (246, 206, 214)),
    ("reeds", (194, 180, 128), (120, 112, 74), (226, 212, 162)),
    ("reeds", (120, 140, 92), (70, 88, 60), (176, 190, 126)),
    ("bark", (112, 94, 78), (70, 58, 50), (158, 140, 120)),
    ("bark", (142, 134, 126), (94, 88, 84), (184, 178, 168)),
    ("water", (122, 152, 166), (74, 104, 118), (196, 214, 218)),
    ("snow", (206, 214, 224), (236, 240, 244), (252, 252, 255)),
)
_WOODS: tuple[Colour, ...] = ((98, 76, 58), (122, 104, 86), (82, 72, 66), (140, 118, 86), (112, 108, 104))
_LEAVES: tuple[Colour, ...] = (
    (92, 132, 58),
    (62, 102, 50),
    (138, 152, 66),
    (176, 128, 54),
    (74, 112, 84),
    (150, 82, 48),
)


def background(size: int, rng: np.random.Generator) -> Image.Image:
    """A background out of focus, RGB, `size` × `size`."""
    kind, top, bottom, light = _BACKDROPS[rng.integers(len(_BACKDROPS))]
    drift = rng.normal(0, 12, 3)
    ramp = np.linspace(0, 1, 48)[:, None, None] + rng.normal(0, 0.10, (48, 48, 1)) * (0.6 if kind == "sky" else 1)
    pixels = np.array(top) + (np.array(bottom) - np.array(top)) * np.clip(ramp, 0, 1) + drift
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))
    pen = ImageDraw.Draw(image, "RGBA")
    _PAINTERS[kind](pen, top, bottom, light, rng)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(1.0, 1.9)))
    image = image.resize((size, size), Image.Resampling.BICUBIC)
    if kind == "bokeh":
        _discs(image, light, rng)
    return image


def _clouds(pen: ImageDraw.ImageDraw, top: Colour, bottom: Colour, light: Colour, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(0, 12)):
        x, y, r = rng.uniform(0, 48), rng.uniform(4, 44), rng.uniform(3, 9)
        pen.ellipse((x - 2 * r, y - 0.6 * r, x + 2 * r, y + 0.6 * r), fill=(*light, 70))


def _clumps(pen: ImageDraw.ImageDraw, top: Colour, bottom: Colour, light: Colour, rng: np.random.Generator) -> None:
    for _ in range(26):
        x, y = rng.uniform(0, 48, 2)
        r = rng.uniform(2, 9)
        colour = (shade(bottom, -0.3), top, mix(top, light, 0.5))[rng.integers(3)]
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(*colour, int(rng.integers(50, 150))))


def _stems(pen: ImageDraw.ImageDraw, top: Colour, bottom: Colour, light: Colour, rng: np.random.Generator) -> None:
    for _ in range(20):
        x, lean, w = rng.uniform(-4, 52), rng.normal(0, 5), rng.uniform(0.6, 2.4)
        colour = (shade(bottom, -0.2), light, top)[rng.integers(3)]
        pen.polygon([(x, 50), (x + w, 50), (x + lean + w / 3, -2), (x + lean, -2)], fill=(*colour, 150))


def _furrows(pen: ImageDraw.ImageDraw, top: Colour, bottom: Colour, light: Colour, rng: np.random.Generator) -> None:
    for _ in range(44):
        x, y = rng.uniform(0, 48, 2)
        h, w = rng.uniform(4, 16), rng.uniform(0.5, 2)
        colour = (shade(bottom, -0.4), light, top)[rng.integers(3)]
        pen.ellipse((x - w, y - h, x + w, y + h), fill=(*colour, 110))


def _ripples(pen: ImageDraw.ImageDraw, top: Colour, bottom: Colour, light: Colour, rng: np.random.Generator) -> None:
    for _ in range(36):
        x, y = rng.uniform(0, 48, 2)
        w, h = rng.uniform(4, 16), rng.uniform(0.3, 1.2)
        pen.ellipse((x - w, y - h, x + w, y + h), fill=(*(light if rng.random() < 0.5 else bottom), 90))


def _flakes(pen: ImageDraw.ImageDraw, top: Colour, bottom: Colour, light: Colour, rng: np.random.Generator) -> None:
    for _ in range(7):
        x, lean, w = rng.uniform(0, 48), rng.normal(0, 14), rng.uniform(0.5, 2.2)
        pen.polygon([(x, 50), (x + w, 50), (x + lean + w / 2, -2), (x + lean, -2)], fill=(*shade(top, -0.35), 90))
    for _ in range(30):
        x, y, r = rng.uniform(0, 48), rng.uniform(0, 48), rng.uniform(0.7, 1.6)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(*light, 210))


_PAINTERS = {"sky": _clouds, "bokeh": _clumps, "reeds": _stems, "bark": _furrows, "water": _ripples, "snow": _flakes}


def _discs(image: Image.Image, light: Colour, rng: np.random.Generator) -> None:
    pen = ImageDraw.Draw(image, "RGBA")
    radius = image.width * rng.uniform(0.02, 0.06)
    for _ in range(rng.integers(4, 18)):
        x, y = rng.uniform(0, image.width, 2)
        r = radius * rng.uniform(0.7, 1.3)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(*light, int(rng.integers(18, 60))))


def perch(size: int, foot: Points, slope: float, unit: float, rng: np.random.Generator) -> Image.Image:
    """A branch under `foot`, inclined by `slope` degrees, RGBA."""
    sheet = Sheet(size)
    wood = shade(_WOODS[rng.integers(len(_WOODS))], rng.uniform(-0.15, 0.15))
    thick = unit * rng.uniform(0.035, 0.085)
    xs = np.linspace(-0.15, 1.15, 7) * size
    bend = unit * rng.normal(0, 0.035, 7)
    lift = np.interp(foot[0], xs, bend)
    ys = foot[1] + thick * 0.75 + np.tan(np.deg2rad(slope)) * (xs - foot[0]) + bend - lift
    spine = opened(np.stack([xs, ys], axis=1))
    if rng.random() < 0.6:
        _sprigs(sheet, spine, unit, wood, rng)
    widths = thick * np.linspace(rng.uniform(0.8, 1.3), rng.uniform(0.7, 1.2), len(spine))
    sheet.line(spine, widths, shade(wood, -0.35))
    sheet.line(spine - (0, 0.16 * thick), widths * 0.82, wood)
    sheet.line(spine - (0, 0.42 * thick), widths * 0.38, shade(wood, 0.22))
    for _ in range(16):
        i = rng.integers(0, len(spine) - 6)
        offset = np.array([0, rng.uniform(-0.6, 0.7) * thick])
        sheet.line(spine[i : i + 5] + offset, 0.07 * thick * np.array([0.2, 1, 1, 1, 0.2]), shade(wood, -0.4))
    return sheet.finished()


def _sprigs(sheet: Sheet, spine: Points, unit: float, wood: Colour, rng: np.random.Generator) -> None:
    green = _LEAVES[rng.integers(len(_LEAVES))]
    for _ in range(rng.integers(1, 4)):
        start = spine[rng.integers(len(spine))]
        way = np.array([rng.normal(0, 0.5), rng.choice([-1, 1]) * rng.uniform(0.4, 1)]) * unit * 0.45
        twig = opened([start, start + way * 0.5 + unit * rng.normal(0, 0.03, 2), start + way])
        sheet.line(twig, unit * np.linspace(0.014, 0.006, len(twig)), shade(wood, -0.15))
        for i in (6, 11, 16):
            angle = rng.uniform(0, 360)
            leaf(sheet, twig[i], unit * rng.uniform(0.16, 0.30), angle, shade(green, rng.uniform(-0.2, 0.2)))


def leaf(sheet: Sheet, root: Points, length: float, angle: float, colour: Colour) -> None:
    """Draw one leaf with its midrib."""
    turn = np.deg2rad(angle)
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) * length
    whole = closed([(0, 0), (0.28, -0.17), (0.62, -0.15), (1, 0), (0.62, 0.16), (0.28, 0.18)])
    sheet.fill(whole @ axes + root, shade(colour, -0.12))
    half = np.array([(0, 0), (0.28, -0.17), (0.62, -0.15), (1, 0)])
    sheet.fill(np.vstack([opened(half), [(0, 0)]]) @ axes + root, shade(colour, 0.12))
    sheet.line(np.array([(0, 0), (0.95, 0)]) @ axes + root, length * np.array([0.018, 0.006]), shade(colour, 0.35))


def foreground(size: int, rng: np.random.Generator) -> Image.Image | None:
    """Leaves and twigs in front of the bird, more or less out of focus, RGBA; None for most images."""
    if rng.random() < 0.6:
        return None
    sheet = Sheet(size, detail=2)
    green = _LEAVES[rng.integers(len(_LEAVES))]
    corner = rng.uniform(0, 1, 2) * size
    corner[rng.integers(2)] = rng.choice([-0.05, 1.05]) * size
    way = (np.array([0.5, 0.5]) * size - corner) * rng.uniform(0.3, 1.0) + rng.normal(0, 0.12, 2) * size
    twig = opened([corner, corner + way * 0.5 + rng.normal(0, 0.04, 2) * size, corner + way])
    sheet.line(twig, size * np.linspace(0.010, 0.004, len(twig)), shade(_WOODS[rng.integers(len(_WOODS))], -0.1))
    for place in rng.choice(len(twig), size=rng.integers(2, 7)):
        length = size * rng.uniform(0.10, 0.22)
        leaf(sheet, twig[place], length, rng.uniform(0, 360), shade(green, rng.uniform(-0.25, 0.2)))
    return sheet.finished(size * rng.uniform(0.0, 0.018))
