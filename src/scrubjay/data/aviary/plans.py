"""Body plans: the proportions that all species of a genus share, and the nouns for such birds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Proportions of a bird. Lengths are in body lengths unless stated otherwise, angles in degrees.

    Attributes:
        nouns: names for such a bird.
        tilt: how upright it sits; 0 is horizontal.
        depth: plumpness of the body; 1 is that of a sparrow.
        head: radius of the head.
        neck: how far the head stands off the body.
        bill: length and depth at the base, and droop of the tip, in head radii.
        hook: whether the upper mandible ends in a hook.
        tail: length, width at the end, and cock (upwards from the axis of the body).
        notch: shape of the end of the tail: positive is forked, negative is rounded.
        leg: length of the tarsus.
        crest: height of the crest in head radii.
        wing: how far the wing tip reaches past the rump.
    """

    nouns: tuple[str, ...]
    tilt: float = 30
    depth: float = 1.0
    head: float = 0.205
    neck: float = 0.0
    bill: tuple[float, float, float] = (0.7, 0.34, 0.05)
    hook: bool = False
    tail: tuple[float, float, float] = (0.55, 0.13, 0)
    notch: float = 0.1
    leg: float = 0.20
    crest: float = 0.0
    wing: float = 0.14


PLANS = (
    Plan(("warbler", "leaflet"), tilt=24, depth=0.92, head=0.200, bill=(0.72, 0.24, 0.02), notch=0.15),
    Plan(("jay", "magpie"), 26, 0.96, 0.205, 0.02, (0.95, 0.44, 0.12), tail=(0.80, 0.18, 0), notch=-0.25, leg=0.24),
    Plan(("finch", "seedeater"), 30, 1.04, 0.215, bill=(0.66, 0.74, 0.10), tail=(0.50, 0.15, 0), notch=0.4),
    Plan(
        ("wren", "skulker"),
        12,
        1.10,
        0.215,
        bill=(0.92, 0.24, 0.20),
        tail=(0.36, 0.13, 52),
        notch=-0.3,
        leg=0.22,
        wing=0,
    ),
    Plan(("flycatcher", "tyrant"), 50, 0.92, 0.215, bill=(0.72, 0.34, 0.03), notch=0.2, leg=0.13, crest=0.18, wing=0.2),
    Plan(
        ("thrush", "solitaire"), 34, 1.06, 0.190, 0.03, (0.85, 0.32, 0.08), tail=(0.58, 0.16, -4), notch=0.0, leg=0.28
    ),
    Plan(("tit", "titlet"), 28, 1.02, 0.235, bill=(0.42, 0.30, 0.02), tail=(0.52, 0.12, 2), notch=0.1, leg=0.17),
    Plan(
        ("shrike", "bushshrike"),
        40,
        0.95,
        0.220,
        bill=(0.66, 0.50, 0.14),
        hook=True,
        tail=(0.78, 0.13, -4),
        notch=-0.3,
        leg=0.18,
    ),
    Plan(
        ("sunbird", "honeyeater"), 30, 0.86, 0.182, 0.03, (1.55, 0.26, 0.42), tail=(0.50, 0.13, 0), notch=0.25, leg=0.17
    ),
    Plan(("bunting", "longspur"), 26, 1.00, 0.205, bill=(0.58, 0.52, 0.06), tail=(0.60, 0.14, 0), notch=0.35),
    Plan(
        ("starling", "oriole"),
        36,
        0.98,
        0.190,
        0.05,
        (1.15, 0.36, 0.05),
        tail=(0.42, 0.16, -3),
        notch=0.1,
        leg=0.25,
        wing=0.22,
    ),
    Plan(("chat", "robin"), 42, 1.06, 0.215, bill=(0.66, 0.26, 0.04), tail=(0.46, 0.15, 3), notch=0.05, leg=0.30),
    Plan(
        ("kingfisher", "halcyon"),
        48,
        0.98,
        0.260,
        0.0,
        (1.75, 0.52, 0.02),
        tail=(0.30, 0.13, 0),
        notch=-0.05,
        leg=0.08,
        crest=0.12,
    ),
    Plan(
        ("pipit", "wagtail"),
        16,
        0.86,
        0.182,
        0.03,
        (0.80, 0.25, 0.03),
        tail=(0.72, 0.12, -3),
        notch=0.1,
        leg=0.30,
        wing=0.05,
    ),
    Plan(
        ("cardinal", "waxwing"), 38, 1.02, 0.210, bill=(0.52, 0.58, 0.10), tail=(0.60, 0.15, 0), notch=0.15, crest=0.75
    ),
    Plan(
        ("beecatcher", "jacamar"),
        48,
        0.86,
        0.195,
        0.03,
        (1.50, 0.30, 0.28),
        tail=(0.78, 0.10, 0),
        notch=-0.35,
        leg=0.08,
        wing=0.2,
    ),
)

HABITATS = (
    "wood", "marsh", "thicket", "reed", "hill", "brook", "canopy", "heath", "moss", "palm", "cliff", "cane",
    "cloud", "thorn", "bamboo", "river", "sage", "orchard", "ridge", "fern", "dune", "willow", "lichen", "island",
)  # fmt: skip
