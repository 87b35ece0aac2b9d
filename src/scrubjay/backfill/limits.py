"""When a backfill stops before its end, and how fast it may go."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scrubjay.errors import ConfigError

BATCH = 128
"""Items of one commit: what a kill can cost."""
_LEAST = 16  # below, the bits of a convolution depend on the size of its batch
_BREATH = 2.0  # seconds of work between two pauses
_UNITS = {"h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop before the end, and how to work.

    Attributes:
        seconds: of work; a batch that was begun is finished, and an audit follows.
        items: to embed; those that cannot be decoded count too.
        until: asked after every batch; true stops.
        rate: images a second, at most.
        jobs: processes.
        ray: "local" or the address of a Ray cluster.

    Raises:
        ConfigError: a number is out of range.
    """

    seconds: float | None = None
    items: int | None = None
    until: Callable[[], bool] | None = None
    rate: float | None = None
    jobs: int = 1
    ray: str | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "items"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ConfigError(f"{name} = {value}: give 0 or more, or leave it out to go on to the end.")
        if self.rate is not None and not self.rate > 0:
            raise ConfigError(f"rate = {self.rate}: give images a second, more than 0.")
        if self.jobs < 1:
            raise ConfigError(f"jobs = {self.jobs}: needed is 1 process or more.")

    @property
    def batch(self) -> int:
        """Items of one commit: fewer where the rate is low, so that pauses are short and many."""
        return BATCH if self.rate is None else min(BATCH, max(_LEAST, math.ceil(self.rate * _BREATH)))

    def reached(self, items: int, seconds: float) -> str | None:
        """The name of a limit that so much work has reached, if one is; `until` is not asked."""
        if self.items is not None and items >= self.items:
            return "items"
        return "seconds" if self.seconds is not None and seconds >= self.seconds else None

    def pause(self, items: int, seconds: float) -> float:
        """Seconds to wait after so much work, to keep to the rate; never past the end of the time.

        >>> Limits(rate=10).pause(50, 2.0), Limits(rate=10, seconds=4).pause(50, 2.0), Limits().pause(50, 2.0)
        (3.0, 2.0, 0.0)
        """
        if self.rate is None:
            return 0.0
        left = math.inf if self.seconds is None else self.seconds - seconds
        return max(0.0, min(items / self.rate - seconds, left))

    def to_json(self) -> dict[str, Any]:
        """For a journal; of `until` only whether it is there."""
        kept = {name: getattr(self, name) for name in ("seconds", "items", "rate", "jobs", "ray")}
        return {**kept, "until": self.until is not None}


def seconds_of(text: str) -> float:
    """A length of time.

    >>> seconds_of("1h30m"), seconds_of("90s"), seconds_of("20m")
    (5400.0, 90.0, 1200.0)

    Raises:
        ConfigError: it is none.
    """
    number = r"(\d+(?:\.\d+)?)"
    found = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s)?", text.strip(), re.ASCII)
    if found is None or not any(found.groups()):
        raise ConfigError(f"time {text!r}: write it as 90s, 20m or 1h30m.")
    return float(sum(float(part or 0) * unit for part, unit in zip(found.groups(), _UNITS.values(), strict=True)))
