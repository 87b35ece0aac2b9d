"""One bird in one pose: the frames of its body, head, tail and legs, and the drawing of body, tail and legs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from scrubjay.data.aviary import head as heads
from scrubjay.data.aviary.canvas import Sheet
from scrubjay.data.aviary.geometry import Frame, Points, closed, ellipse, feather, opened
from scrubjay.data.aviary.palette import mix, shade
from scrubjay.data.aviary.pose import Pose
from scrubjay.data.aviary.species import Species
from scrubjay.data.aviary.wing import wing


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The frames in which the parts of a bird are drawn; `feet` are points on the canvas, the far one first."""

    bird: Frame
    body: Frame
    head: Frame
    tail: Frame
    hips: Points
    feet: Points


@dataclass(frozen=True, slots=True)
class Bird:
    """The layers of a drawn bird, back to front, RGBA at the final size: tail and legs, body, wing, bill and eye."""

    under: Image.Image
    body: Image.Image
    wing: Image.Image
    face: Image.Image


def skeleton(species: Species, pose: Pose) -> Skeleton:
    """Place the parts of a bird."""
    plan = species.plan
    bird = Frame(np.diag([-pose.unit if pose.mirrored else pose.unit, pose.unit]), np.array(pose.centre))
    tilt = plan.tilt + pose.tilt
    local = Frame(np.eye(2), np.zeros(2))
    pivot = local.inner((0, 0), -tilt)([(0.27, -0.11)])[0]
    reach = np.deg2rad(-(45 + 0.55 * tilt) + (-16 if pose.back else 0.3 * pose.nod))
    centre = pivot + (0.175 + plan.neck) * np.array([np.cos(reach), np.sin(reach)])
    look = (-1 if pose.back else 1) * plan.head
    head = bird.inner(centre, (-1 if pose.back else 1) * pose.nod, (look, plan.head))
    body = bird.inner((0, 0), -tilt)
    tail = body.inner((-0.50, -0.015), plan.tail[2] + pose.tail)
    hips = local.inner((0, 0), -tilt)([(-0.02, 0.20 * plan.depth), (0.06, 0.22 * plan.depth)])
    below = 0.10 + plan.leg + 0.05 * np.sin(np.deg2rad(tilt))
    feet = np.add(hips, [(0.05, below), (0.03, below)])
    feet[0, 1] = feet[1, 1] - np.tan(np.deg2rad(pose.slope)) * (feet[1, 0] - feet[0, 0])
    return Skeleton(bird, body, head, tail, bird(hips), bird(feet))


def draw(species: Species, pose: Pose, size: int, rng: np.random.Generator) -> Bird:
    """Draw a bird on a square of `size` pixels."""
    frames = skeleton(species, pose)
    under, fold, face = Sheet(size), Sheet(size), Sheet(size)
    _legs(under, species, pose, frames)
    _tail(under, species, frames.tail, pose.unit)
    wing(fold, species.plumage, species.plan, frames.body.inner((0.2, -0.05), -pose.droop))
    heads.bill(face, species, frames.head, pose)
    heads.eye(face, species.plumage, frames.head, pose)
    folded = fold.finished()
    folded.putalpha(ImageChops.multiply(folded.getchannel("A"), _bend(frames.body, pose.unit, size)))
    return Bird(under.finished(), _body(species, pose, frames, size, rng), folded, face.finished())


def outline(species: Species, frames: Skeleton, back: bool) -> Points:
    """The silhouette of body and head."""
    depth = species.plan.depth
    head = heads.profile(species.plan)
    above = frames.body([(-0.53, -0.055), (-0.30, -0.155 * depth), (-0.02, -0.225 * depth)])
    front = [(0.385, 0.03), (0.335, 0.16 * depth), (0.14, 0.262 * depth), (-0.12, 0.255 * depth)]
    below = frames.body([*front, (-0.36, 0.155), (-0.54, 0.045)])
    return closed(np.vstack([above, frames.head(head[::-1] if back else head), below]))


def _body(species: Species, pose: Pose, frames: Skeleton, size: int, rng: np.random.Generator) -> Image.Image:
    """The body: large soft areas of colour, then the fine marks, cut out by the silhouette."""
    mask = Sheet(size)
    mask.fill(outline(species, frames, pose.back), (0, 0, 0))
    soft = _areas(species, frames, pose.unit, size).filter(ImageFilter.GaussianBlur(0.016 * pose.unit))
    fine = Sheet(size)
    _breast(fine, species, frames, pose.unit, rng)
    heads.marks(fine, species.plumage, frames.head, pose.unit * species.plan.head)
    soft.alpha_composite(fine.finished(0.009 * pose.unit))
    soft.putalpha(mask.finished(0.004 * pose.unit).getchannel("A"))
    return soft


def _bend(body: Frame, unit: float, size: int) -> Image.Image:
    """Mask of the visible wing, mode L: the breast feathers cover its bend."""
    shown = Image.new("L", (size, size), 255)
    edge = [
        (0.13, -0.30),
        (0.19, -0.17),
        (0.225, -0.05),
        (0.20, 0.06),
        (0.10, 0.14),
        (0.2, 0.5),
        (0.6, 0.2),
        (0.5, -0.5),
    ]
    ImageDraw.Draw(shown).polygon(body(closed(edge)).ravel().tolist(), fill=0)
    return shown.filter(ImageFilter.GaussianBlur(0.022 * unit))


def _areas(species: Species, frames: Skeleton, unit: float, size: int) -> Image.Image:
    plumage, body, head = species.plumage, frames.body, frames.head
    sheet = Sheet(size, detail=1)
    sheet.fill(np.array([(-9, -9), (9, -9), (9, 9), (-9, 9)]) * size, plumage.belly)
    sheet.fill(body(ellipse(-0.08, 0.09, 0.38, 0.14, 4)), plumage.flank)
    sheet.fill(body(ellipse(-0.50, 0.11, 0.20, 0.12, -14)), plumage.vent)
    sheet.fill(body(ellipse(0.33, 0.03, 0.24, 0.20, -50)), plumage.breast)
    back = [(-0.7, 0.0), (-0.42, -0.01), (-0.1, -0.05), (0.16, -0.10), (0.24, -0.36), (0.05, -0.6), (-0.7, -0.4)]
    sheet.fill(body(closed(back)), plumage.upper)
    sheet.fill(body(ellipse(-0.46, -0.12, 0.17, 0.11, 16)), plumage.rump)
    nape = np.vstack([body([(-0.12, -0.16)]), body([(0.12, -0.16)]), head([(-0.45, 0.15)])])
    sheet.line(nape, unit * np.array([0.10, 0.12, 0.16]), plumage.upper)
    sheet.fill(head(ellipse(-0.05, -0.10, 1.12, 1.02)), mix(plumage.upper, plumage.cheek, 0.35))
    sheet.fill(head(ellipse(0.62, 0.98, 0.72, 0.46, 35)), plumage.throat)
    return sheet.finished()


def _breast(sheet: Sheet, species: Species, frames: Skeleton, unit: float, rng: np.random.Generator) -> None:
    plumage, body = species.plumage, frames.body
    if plumage.marks != "none":
        across, along = np.meshgrid(np.linspace(0.20, -0.10, 6), np.linspace(0.37, -0.22, 9))
        places = np.stack([along + 0.05 * (np.arange(6) % 2), across], axis=-1).reshape(-1, 2)
        places = places[places[:, 1] > -0.02 - 0.28 * (places[:, 0] - 0.18)] + 0.0
        places += rng.normal(0, 0.008, places.shape)
        for x, y in places:
            fade = np.clip(1.1 - 1.2 * max(0.0, 0.12 - x), 0.45, 1)
            if plumage.marks == "streaks":
                sheet.fill(body(feather((x + 0.035, y - 0.02), (x - 0.04, y + 0.012), 0.026, 0.8)), plumage.mark, fade)
            else:
                sheet.fill(body(ellipse(x, y, 0.020, 0.015)), plumage.mark, fade)
    if plumage.band is not None:
        line = body(opened([(0.50, -0.06), (0.38, 0.05), (0.26, 0.06), (0.10, -0.02)]))
        sheet.line(line, unit * 0.055 * np.ones(len(line)), plumage.band)


def _tail(sheet: Sheet, species: Species, tail: Frame, unit: float) -> None:
    plumage, (length, width, _) = species.plumage, species.plan.tail
    for spread in (1.0, -1.0, 0.66, -0.66, 0.33, -0.33, 0.0):
        reach = length * (1 + 0.5 * species.plan.notch * (abs(spread) - 0.5))
        tip = np.array([-reach, 0.55 * width * spread])
        root = np.array([0.06, 0.045 * spread])
        colour = plumage.tail
        if abs(spread) > 0.6 and plumage.tail_sides is not None:
            colour = plumage.tail_sides
        blade = feather(root, tip, 0.105, 0.15)
        sheet.fill(tail(blade), shade(colour, -0.38))
        end = plumage.tail_tip or colour
        sheet.fill(tail(feather(root, tip * (0.99, 1), 0.088, 0.15)), shade(end, 0.05 * spread))
        if plumage.tail_tip is not None:
            sheet.fill(tail(feather(root, tip * (0.84, 0.9), 0.088, 0.0)), shade(colour, 0.05 * spread))
        sheet.line(tail(np.array([root, tip * 0.95])), unit * np.array([0.004, 0.003]), shade(colour, -0.3))
    if plumage.tail_bars:
        for place in np.arange(0.3, 0.95, 0.13):
            x, y = -length * place, 0.6 * width
            bar = tail(opened([(x, -y), (x - 0.02, 0), (x, y)]))
            sheet.line(bar, unit * 0.012 * np.ones(len(bar)), shade(plumage.tail, -0.45), 0.9)


def _legs(sheet: Sheet, species: Species, pose: Pose, frames: Skeleton) -> None:
    plumage, unit = species.plumage, pose.unit
    facing = -1 if pose.mirrored else 1
    for hip, foot, far in zip(frames.hips, frames.feet, (True, False), strict=True):
        colour = shade(plumage.leg, -0.3 if far else 0.0)
        knee = hip + (foot - hip) * 0.35 + np.array([-0.035 * facing * unit, 0])
        shin = opened([hip, knee, foot])
        sheet.line(shin, unit * np.linspace(0.018, 0.0125, len(shin)), colour)
        for toe, drop in ((0.085, 0.035), (0.06, 0.05), (-0.055, 0.04)):
            slope = np.tan(np.deg2rad(pose.slope)) * toe
            bend = foot + unit * np.array([toe * 0.6 * facing, slope * 0.6 - 0.012])
            end = foot + unit * np.array([toe * facing, slope + drop])
            claw = opened([foot, bend, end])
            sheet.line(claw, unit * np.linspace(0.014, 0.007, len(claw)), colour)
        thigh = feather(hip - np.array([0, 0.10 * unit]), knee + np.array([0, 0.02 * unit]), 0.15 * unit, 0.5)
        sheet.fill(thigh, shade(mix(plumage.flank, plumage.belly, 0.5), -0.25 if far else -0.1))
