"""Candidates for a method's weights, and how many of them are trained for how many epochs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scrubjay.config import override
from scrubjay.errors import ConfigError
from scrubjay.methods import Method, MethodOptions, method

FACTORS = (0.1, 1 / 3, 1.0, 3.0, 10.0)
"""Multiples of a weight that become its candidates."""
TRIALS = 25
"""Number of candidates, unless the user sets another."""


@dataclass(frozen=True)
class Candidate:
    """One choice of values for the options that are tuned.

    Attributes:
        settings: value by option.
        method: `name` and all options of the method.
    """

    settings: dict[str, Any]
    method: dict[str, Any]

    @property
    def label(self) -> str:
        """The settings as text, for instance `alpha=3,beta=0.3`."""
        return ",".join(f"{key}={value}" for key, value in self.settings.items())


def weights(options: MethodOptions) -> dict[str, float]:
    """The method's own weights above zero, by name: options called `weight`, or documented as a "weight of".

    Options that all methods share, such as `metric_weight`, are left out.

    >>> from scrubjay.methods.mmd import MMDOptions
    >>> weights(MMDOptions(beta=0.0))
    {'alpha': 3.0}
    """
    fields = {key: field for key, field in type(options).model_fields.items() if key not in MethodOptions.model_fields}
    own = [key for key, field in fields.items() if key == "weight" or "weight of" in (field.description or "").lower()]
    values = {key: getattr(options, key) for key in own}
    return {key: value for key, value in values.items() if isinstance(value, float) and value > 0}


def candidates(
    given: Mapping[str, Any], grid: Iterable[str] = (), trials: int = TRIALS, seed: int = 0
) -> list[Candidate]:
    """All combinations of the values of the tuned options, in order; if there are too many, a random sample of them.

    Args:
        given: `name` and options of the method.
        grid: `key=value,value` for every option to tune; by default, the method's weights, each times `FACTORS`.
        trials: largest number of candidates.
        seed: seed of the sample.

    Raises:
        ConfigError: the method is unknown, needs old images, or has no weight and no grid was given; an option is
            unknown or a value out of its range.
    """
    kind = method(str(given["name"]))
    if kind.needs_old_images:
        raise ConfigError(f"{given['name']} learns from old images, so that there is nothing to tune without them.")
    if trials < 1:
        raise ConfigError(f"--trials {trials}: give 1 or more.")
    options = {key: value for key, value in given.items() if key != "name"}
    centre = kind.Options.parse(options, "method")
    axes = _axes(grid) or {key: _around(centre, key, value) for key, value in weights(centre).items()}
    if not axes:
        raise ConfigError(f"{given['name']} has no weight above 0 to tune: give --grid KEY=VALUE,VALUE.")
    combinations = itertools.product(*axes.values())
    chosen = [_candidate(kind, given, dict(zip(axes, values, strict=True))) for values in combinations]
    if len(chosen) > trials:
        drawn = random.Random(seed).sample(range(len(chosen)), trials)
        chosen = [chosen[index] for index in sorted(drawn)]
    return chosen


def _axes(grid: Iterable[str]) -> dict[str, list[Any]]:
    axes: dict[str, list[Any]] = {}
    for text in grid:
        key, equals, listed = text.partition("=")
        values = [part.strip() for part in listed.split(",")]
        if not equals or not all(values) or len(set(values)) < len(values):
            raise ConfigError(f"--grid {text}: write it as KEY=VALUE,VALUE, for instance weight=1,3,10.")
        axes[key.strip()] = [override({}, [f"value={value}"])["value"] for value in values]
    return axes


def _around(centre: MethodOptions, key: str, value: float) -> list[Any]:
    """The value times all factors, rounded to two digits, without those that the option does not accept."""
    values = (float(f"{value * factor:.2g}") for factor in FACTORS)
    return [each for each in values if _accepts(type(centre), {**centre.model_dump(mode="json"), key: each})]


def _accepts(kind: type[MethodOptions], options: Mapping[str, Any]) -> bool:
    try:
        kind.parse(options)
    except ConfigError:
        return False
    return True


def _candidate(kind: type[Method], given: Mapping[str, Any], settings: dict[str, Any]) -> Candidate:
    options = {**{key: value for key, value in given.items() if key != "name"}, **settings}
    kind.Options.parse(options, "method")
    return Candidate(settings, {"name": given["name"], **options})


def rungs(count: int, epochs: int) -> list[tuple[int, int]]:
    """The rungs of successive halving: how many candidates each one trains, and for how many epochs.

    The last rung trains for all epochs, and each earlier one for half as many as the next, down to one epoch. Each rung
    has half as many candidates as the one before, rounded up. So n candidates and E = 2^r epochs cost about
    (r + 1)·n/2^r full trainings instead of n.

    >>> rungs(25, 8)
    [(25, 1), (13, 2), (7, 4), (4, 8)]
    >>> rungs(2, 8)
    [(2, 4), (1, 8)]
    """
    lengths = [epochs]
    while lengths[0] > 1 and 2 ** (len(lengths) - 1) < count:
        lengths.insert(0, lengths[0] // 2)
    return [(-(-count // 2**rung), length) for rung, length in enumerate(lengths)]
