"""English names of species: the trait in which a species differs from its genus, and the name of the genus."""

from __future__ import annotations

import numpy as np

from scrubjay.data.aviary.plans import HABITATS, PLANS
from scrubjay.data.aviary.species import species

_JOINED = 5  # longest noun, in letters, that is joined to its habitat: Thicketwren, but Thicket Flycatcher
_LANDS = (
    "tav",
    "mor",
    "sel",
    "kan",
    "bru",
    "oli",
    "ven",
    "dar",
    "lus",
    "pal",
    "ner",
    "ash",
    "cor",
    "zam",
    "qui",
    "hol",
)


def name(seed: int, index: int) -> str:
    """The name of species `index`, unique among all species of the seed.

    The leading traits within a genus differ, so the epithets differ too; two genera never share a noun.

    >>> name(0, 0) == name(0, 0) != name(0, 1)
    True
    """
    bird = species(seed, index)
    return f"{bird.epithet} {_noun(seed, bird.genus)}"


def _noun(seed: int, genus: int) -> str:
    """Habitat and kind of bird; the nouns of a plan are used in turn, and when all are taken a land comes before."""
    turn, place = divmod(genus, len(PLANS))
    number = np.random.default_rng([seed, 4, turn]).permutation(len(PLANS))[place]
    kinds = PLANS[number].nouns
    land, rest = divmod(turn, len(kinds) * len(HABITATS))
    habitats = np.random.default_rng([seed, 6, int(number)]).permutation(HABITATS)
    kind, habitat = divmod(rest, len(HABITATS))
    word = kinds[kind] if len(kinds[kind]) <= _JOINED else f" {kinds[kind].capitalize()}"
    return f"{_land(land)}{habitats[habitat].capitalize()}{word}"


def _land(number: int) -> str:
    """An empty text for 0, then "Tavan ", "Moran ", …: the digits of `number`, so that no two are the same."""
    syllables = ""
    while number > 0:
        number, digit = divmod(number - 1, len(_LANDS))
        syllables = _LANDS[digit] + syllables
    return f"{syllables.capitalize()}an " if syllables else ""
