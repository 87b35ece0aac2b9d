"""One image of a bird: its pose, the scene around it, the light, and the effects of the lens."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from scrubjay.data.aviary.bird import Bird, draw, skeleton
from scrubjay.data.aviary.pose import Pose
from scrubjay.data.aviary.scene import background, foreground, perch
from scrubjay.data.aviary.species import Species, species

Pixels = NDArray[np.floating[Any]]


def bird_image(seed: int, index: int, split: Literal["train", "test"], number: int, size: int) -> Image.Image:
    """Image `number` of species `index`, RGB, `size` × `size`: a pure function of its arguments."""
    rng = np.random.default_rng([seed, 7, index, split == "test", number])
    kind = species(seed, index)
    pose = _pose(kind, size, rng)
    foot = skeleton(kind, pose).feet[1]
    canvas = background(size, rng)
    branch = perch(size, foot, -pose.slope if pose.mirrored else pose.slope, pose.unit, rng)
    canvas.paste(branch, mask=branch)
    sun = np.deg2rad(rng.uniform(-150, -30))
    _compose(canvas, draw(kind, pose, size, rng), pose.unit, (np.cos(sun), np.sin(sun)), rng)
    leaves = foreground(size, rng)
    if leaves is not None:
        canvas.paste(leaves, mask=leaves)
    return _lens(canvas, rng)


def _pose(kind: Species, size: int, rng: np.random.Generator) -> Pose:
    """A random pose, scaled and moved so that the bird fills most of the image without leaving it."""
    loose = Pose(
        centre=(0.0, 0.0),
        unit=1.0,
        mirrored=bool(rng.random() < 0.5),
        tilt=float(np.clip(rng.normal(0, 8), -18, 18)),
        nod=float(np.clip(rng.normal(0, 11), -24, 24)),
        turn=min(abs(float(rng.normal(0, 0.3))), 0.8),
        back=bool(rng.random() < 0.1),
        tail=float(rng.normal(0, 7)),
        droop=float(rng.uniform(-2, 5)),
        slope=float(rng.normal(0, 9)),
    )
    frames, plan = skeleton(kind, loose), kind.plan
    reach = 0.9 + plan.bill[0] * (1 - 0.45 * loose.turn)
    spots = [frames.head([(reach, 0.1 + 0.5 * plan.bill[2]), (0, -1.1 - 0.5 * plan.crest), (-1, 0)])]
    spots += [frames.tail([(-plan.tail[0], 0)]), frames.feet, frames.body([(-0.5, -0.1), (0.4, 0.1), (0, 0.28)])]
    low, high = np.vstack(spots).min(axis=0), np.vstack(spots).max(axis=0)
    unit = size * rng.uniform(0.76, 0.97) / float(max(high - low))
    spare = size - unit * (high - low)
    x, y = spare * rng.uniform((0.1, 0.15), (0.9, 0.85)) - unit * low
    return replace(loose, centre=(float(x), float(y)), unit=unit)


def _compose(canvas: Image.Image, bird: Bird, unit: float, sun: tuple[float, float], rng: np.random.Generator) -> None:
    """Lay the bird over the canvas with light from the direction `sun`."""
    size = canvas.width
    window = rng.integers(0, 256, 2)
    rows, columns = ((np.arange(size) + start) % 256 for start in window)
    down = _down()[np.ix_(rows, columns)]
    body = bird.body.getchannel("A")
    round_ = unit * (0.30 * _slope(body, 0.11 * unit, sun) + 0.07 * _slope(body, 0.03 * unit, sun))
    wing = bird.wing.getchannel("A")
    shadow = np.asarray(wing.filter(ImageFilter.GaussianBlur(0.025 * unit)), dtype=np.float32) / 255
    shadow = np.roll(shadow, max(1, round(0.025 * unit)), axis=0)
    light = np.clip(1.02 + round_ * 0.55, 0.5, 1.35) * (1 + down * 0.05)
    canvas.paste(_lit(bird.under, 0.95 + down * 0.04), mask=bird.under)
    canvas.paste(_lit(bird.body, light * (1 - 0.28 * shadow)), mask=bird.body)
    relief = 0.30 * round_ + 0.05 * unit * _slope(wing, 0.05 * unit, sun)
    canvas.paste(_lit(bird.wing, np.clip(1 + relief, 0.6, 1.3) * (1 + down * 0.03)), mask=bird.wing)
    canvas.paste(_lit(bird.face, np.clip(1 + 0.3 * round_, 0.75, 1.25)), mask=bird.face)


def _slope(height: Image.Image, blur: float, sun: tuple[float, float]) -> Pixels:
    """Per pixel, how far a surface faces the sun; its height is the blurred mask `height`."""
    surface = np.asarray(height.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32) / 255
    slope: Pixels = np.zeros_like(surface)
    slope[:, 1:-1] -= (surface[:, 2:] - surface[:, :-2]) * np.float32(sun[0] / 2)
    slope[1:-1] -= (surface[2:] - surface[:-2]) * np.float32(sun[1] / 2)
    return slope


def _lit(layer: Image.Image, light: Pixels) -> Image.Image:
    colours = np.asarray(layer)[..., :3] * light[..., None]
    return Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))


@lru_cache(maxsize=1)
def _down() -> Pixels:
    """A texture of soft fibres like those of feathers: 256 × 256, tileable, mean 0, standard deviation 1."""
    noise = np.random.default_rng(8).normal(size=(256, 256))
    waves = np.hypot(np.fft.fftfreq(256)[:, None] * 5, np.fft.fftfreq(256)[None] * 11)
    fibres = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-((2.2 * waves) ** 2))).real
    down: Pixels = (fibres / fibres.std()).astype(np.float32)
    return down


def _lens(canvas: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Apply exposure, colour temperature, dappled light, blur and grain."""
    size = canvas.width
    blur = float(np.clip(rng.normal(0.0, 0.4), 0, 0.8)) * size / 128
    pixels: Pixels = np.asarray(canvas.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32)
    warmth = rng.normal(0, 0.05)
    gain = np.array([1 + warmth, 1.0, 1 - warmth]) * rng.uniform(0.78, 1.18)
    contrast, middle = rng.uniform(0.82, 1.12), 118
    if rng.random() < 0.3:
        patches = Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8))
        dapple = np.asarray(patches.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32) / 255
        pixels = pixels * (0.82 + 0.36 * dapple[..., None])
    grain = rng.standard_normal((size, size), dtype=np.float32)[..., None] * np.float32(rng.uniform(0, 5))
    pixels = (pixels * gain.astype(np.float32) - middle) * np.float32(contrast) + middle + grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
