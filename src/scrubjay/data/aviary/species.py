"""The species: all of a genus share body plan and palette, and each differs in a few fine traits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from scrubjay.data.aviary.palette import FEATHERS, SCHEMES, Colour, distance, mix, shade
from scrubjay.data.aviary.plans import PLANS, Plan

PER_GENUS = 6


@dataclass(frozen=True, slots=True)
class Plumage:
    """Colours of the parts of a bird; None for a part that looks like its surroundings."""

    upper: Colour
    rump: Colour
    crown: Colour
    stripe: Colour | None
    nape: Colour | None
    cheek: Colour
    brow: Colour | None
    eyeline: Colour | None
    ring: Colour | None
    malar: Colour | None
    throat: Colour
    breast: Colour
    band: Colour | None
    marks: str
    mark: Colour
    flank: Colour
    belly: Colour
    vent: Colour
    shoulder: Colour
    coverts: Colour
    bars: tuple[Colour | None, Colour | None]
    flight: Colour
    edges: Colour
    tail: Colour
    tail_sides: Colour | None
    tail_tip: Colour | None
    tail_bars: bool
    bill: Colour
    mandible: Colour
    leg: Colour
    iris: Colour


@dataclass(frozen=True, slots=True)
class Species:
    """One species: its body plan, its plumage, and the trait that names it."""

    plan: Plan
    plumage: Plumage
    genus: int
    epithet: str


@dataclass(frozen=True, slots=True)
class Trait:
    """A trait in which a species differs from its genus.

    Attributes:
        part: the part of the plumage that changes.
        epithet: template of the epithet, filled in with the colour.
        change: gives the plumage with that part in a new colour.
    """

    part: str
    epithet: str
    change: Callable[[Plumage, Colour], Plumage]


TRAITS = (
    Trait("crown", "{}-capped", lambda p, c: replace(p, crown=c)),
    Trait("brow", "{}-browed", lambda p, c: replace(p, brow=c)),
    Trait("throat", "{}-throated", lambda p, c: replace(p, throat=c)),
    Trait("flank", "{}-flanked", lambda p, c: replace(p, flank=c)),
    Trait("wing", "{}-barred", lambda p, c: replace(p, bars=(c, c))),
    Trait("cheek", "{}-cheeked", lambda p, c: replace(p, cheek=c)),
    Trait("ring", "{}-spectacled", lambda p, c: replace(p, ring=c)),
    Trait("band", "{}-gorgeted", lambda p, c: replace(p, band=c)),
    Trait("marks", "{}-streaked", lambda p, c: replace(p, marks="streaks", mark=c)),
    Trait("malar", "{}-whiskered", lambda p, c: replace(p, malar=c)),
    Trait("rump", "{}-rumped", lambda p, c: replace(p, rump=c)),
    Trait("nape", "{}-collared", lambda p, c: replace(p, nape=c)),
    Trait("shoulder", "{}-shouldered", lambda p, c: replace(p, shoulder=c)),
    Trait("eyeline", "{}-masked", lambda p, c: replace(p, eyeline=c)),
    Trait("tail_tip", "{}-tipped", lambda p, c: replace(p, tail_tip=c)),
    Trait("vent", "{}-vented", lambda p, c: replace(p, vent=c)),
    Trait("marks", "{}-spotted", lambda p, c: replace(p, marks="spots", mark=c)),
    Trait("stripe", "{}-crowned", lambda p, c: replace(p, stripe=c)),
    Trait("edges", "{}-winged", lambda p, c: replace(p, edges=c)),
    Trait("tail_sides", "{}-tailed", lambda p, c: replace(p, tail_sides=c)),
)
_HIDING = ({"crown", "stripe"}, {"cheek", "eyeline"}, {"throat", "malar"}, {"wing", "edges"})
"""Pairs of traits of which one would hide the other, so that the species would not look like its name."""
BILLS = ((52, 50, 52), (96, 92, 92), (214, 148, 56), (196, 84, 52), (226, 190, 90), (150, 116, 88))
LEGS = ((62, 56, 54), (150, 108, 84), (196, 128, 78), (110, 116, 124))
IRISES = ((38, 26, 20), (60, 30, 18), (150, 40, 26), (222, 180, 70), (214, 210, 196))


@lru_cache(maxsize=4096)
def species(seed: int, index: int) -> Species:
    """Species number `index` of the seed; it does not depend on the number of species."""
    genus, member = divmod(index, PER_GENUS)
    plan, plumage, accents = _genus(seed, genus)
    rng = np.random.default_rng([seed, 2, index])
    leads = np.random.default_rng([seed, 3, genus]).permutation(len(TRAITS))
    lead = TRAITS[leads[member]]
    colour = _contrasting(plumage, lead.part, np.roll(accents, member).tolist())
    plumage = lead.change(plumage, FEATHERS[colour])
    for number in rng.choice(leads[PER_GENUS:], size=3, replace=False):
        trait = TRAITS[number]
        if trait.part != lead.part and {trait.part, lead.part} not in _HIDING:
            shuffled = rng.permutation(accents).tolist()
            plumage = trait.change(plumage, FEATHERS[_contrasting(plumage, trait.part, shuffled)])
    plumage = _drift(plumage, rng)
    return Species(_vary(plan, rng), plumage, genus, lead.epithet.format(colour.capitalize()))


def _genus(seed: int, genus: int) -> tuple[Plan, Plumage, tuple[str, ...]]:
    turn, place = divmod(genus, len(PLANS))
    plan = PLANS[np.random.default_rng([seed, 4, turn]).permutation(len(PLANS))[place]]
    turn, place = divmod(genus, len(SCHEMES))
    upper, under, flight, accents = SCHEMES[np.random.default_rng([seed, 5, turn]).permutation(len(SCHEMES))[place]]
    rng = np.random.default_rng([seed, 1, genus])
    back, front, wing = FEATHERS[upper], FEATHERS[under], FEATHERS[flight]
    accent, other = (FEATHERS[name] for name in rng.permutation(accents)[:2])
    plain = Plumage(
        upper=back, rump=shade(back, 0.06), crown=shade(back, -0.06), stripe=None, nape=None,
        cheek=mix(back, front, 0.35), brow=None, eyeline=None, ring=None, malar=None,
        throat=shade(front, 0.3), breast=front, band=None, marks="none", mark=shade(back, -0.3),
        flank=mix(front, back, 0.25), belly=shade(front, 0.45), vent=shade(front, 0.3),
        shoulder=back, coverts=mix(back, wing, 0.45), bars=(None, None), flight=wing, edges=mix(wing, back, 0.7),
        tail=mix(wing, back, 0.35), tail_sides=None, tail_tip=None, tail_bars=bool(rng.random() < 0.15),
        bill=BILLS[rng.integers(len(BILLS))], mandible=BILLS[rng.integers(len(BILLS))],
        leg=LEGS[rng.integers(len(LEGS))], iris=IRISES[rng.choice(5, p=(0.4, 0.3, 0.1, 0.12, 0.08))],
    )  # fmt: skip
    shared = rng.choice(4)
    if shared == 0:
        plain = replace(plain, crown=accent, cheek=mix(back, front, 0.55))
    elif shared == 1:
        plain = replace(plain, breast=mix(front, accent, 0.6), throat=mix(front, accent, 0.75))
    elif shared == 2:
        plain = replace(plain, brow=shade(front, 0.4), eyeline=shade(back, -0.5))
    else:
        plain = replace(plain, bars=(None, shade(front, 0.4)), marks="streaks", mark=shade(other, -0.25))
    return plan, plain, accents


def _contrasting(plumage: Plumage, part: str, accents: list[str]) -> str:
    """The first accent colour that stands out from the part itself, or from its surroundings, without the trait."""
    around = {"brow": plumage.crown, "stripe": plumage.crown, "malar": plumage.throat, "band": plumage.breast}
    around |= {"marks": plumage.breast, "ring": plumage.cheek, "eyeline": plumage.cheek, "nape": plumage.upper}
    around |= {"wing": plumage.coverts, "tail_tip": plumage.tail, "tail_sides": plumage.tail}
    present = around[part] if part in around else getattr(plumage, part)
    return next((name for name in accents if distance(FEATHERS[name], present) > 170), accents[0])


def _drift(plumage: Plumage, rng: np.random.Generator) -> Plumage:
    """Small random changes of hue on the large parts, and sometimes another colour of legs or lower mandible."""
    tones = [FEATHERS[name] for name in ("olive", "rufous", "grey", "buff", "slate")]

    def moved(colour: Colour) -> Colour:
        tinted = mix(colour, tones[rng.integers(len(tones))], rng.uniform(0, 0.22))
        return shade(tinted, rng.uniform(-0.13, 0.13))

    plumage = replace(
        plumage,
        upper=moved(plumage.upper),
        breast=moved(plumage.breast),
        belly=moved(plumage.belly),
        flank=moved(plumage.flank),
        coverts=moved(plumage.coverts),
        cheek=moved(plumage.cheek),
        tail=moved(plumage.tail),
        flight=moved(plumage.flight),
    )
    if rng.random() < 0.25:
        plumage = replace(plumage, leg=LEGS[rng.integers(len(LEGS))])
    if rng.random() < 0.25:
        plumage = replace(plumage, mandible=BILLS[rng.integers(len(BILLS))])
    return plumage


def _vary(plan: Plan, rng: np.random.Generator) -> Plan:
    length, depth, droop = plan.bill
    tail, width, cock = plan.tail
    return replace(
        plan,
        bill=(length * rng.uniform(0.88, 1.14), depth * rng.uniform(0.9, 1.12), droop),
        tail=(tail * rng.uniform(0.88, 1.14), width, cock),
        notch=plan.notch + rng.uniform(-0.08, 0.08),
        depth=plan.depth * rng.uniform(0.97, 1.03),
    )
