"""Limits of a backfill: when it stops before its end, how fast it may work, and where."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scrubjay.errors import ConfigError

BATCH = 128
"""Number of items that are written in one commit, which is the most that a killed process loses."""
FEATURE_BATCH = 2048
"""Number of items that are embedded from stored features in one commit: some megabytes, and about a second of work."""
_MIN_BATCH = 16  # with smaller batches the last bits of a convolution depend on the size of the batch
_SECONDS_BETWEEN_PAUSES = 2.0
_UNITS = {"h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop before the end, and how to work.

    Attributes:
        seconds: seconds of work; a batch that has begun is finished, and the audit follows.
        items: number of items to embed, including those that cannot be decoded.
        until: called after every batch; the backfill stops when it returns true.
        rate: most items a second.
        jobs: number of processes.
        ray: "local", or the address of a Ray cluster; None: this machine without Ray.

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
                raise ConfigError(f"{name} = {value}: give 0 or more, or omit it to work to the end.")
        if self.rate is not None and not self.rate > 0:
            raise ConfigError(f"rate = {self.rate}: give a number of images a second above 0.")
        if self.jobs < 1:
            raise ConfigError(f"jobs = {self.jobs}: give 1 process or more.")

    @property
    def batch(self) -> int:
        """Number of items in one commit; smaller at a low rate, so that pauses are short and frequent."""
        if self.rate is None:
            return BATCH
        return min(BATCH, max(_MIN_BATCH, math.ceil(self.rate * _SECONDS_BETWEEN_PAUSES)))

    @property
    def feature_batch(self) -> int:
        """Number of items in one commit where they are embedded from stored features."""
        return FEATURE_BATCH if self.rate is None else self.batch

    def reached(self, items: int, seconds: float) -> str | None:
        """The name of a limit that is reached after this much work; None for none. `until` is not called."""
        if self.items is not None and items >= self.items:
            return "items"
        return "seconds" if self.seconds is not None and seconds >= self.seconds else None

    def pause(self, items: int, seconds: float) -> float:
        """Seconds to wait after this much work to keep to the rate, at most until the limit of seconds.

        >>> Limits(rate=10).pause(50, 2.0), Limits(rate=10, seconds=4).pause(50, 2.0), Limits().pause(50, 2.0)
        (3.0, 2.0, 0.0)
        """
        if self.rate is None:
            return 0.0
        remaining = math.inf if self.seconds is None else self.seconds - seconds
        return max(0.0, min(items / self.rate - seconds, remaining))

    def to_json(self) -> dict[str, Any]:
        """The limits as a journal stores them; "until" says only whether there is such a function."""
        values = {name: getattr(self, name) for name in ("seconds", "items", "rate", "jobs", "ray")}
        return {**values, "until": self.until is not None}


def seconds_of(text: str) -> float:
    """Parse a duration.

    >>> seconds_of("1h30m"), seconds_of("90s"), seconds_of("20m")
    (5400.0, 90.0, 1200.0)

    Raises:
        ConfigError: the text is not a duration.
    """
    number = r"(\d+(?:\.\d+)?)"
    parsed = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s)?", text.strip(), re.ASCII)
    if parsed is None or not any(parsed.groups()):
        raise ConfigError(f"time {text!r}: write it as 90s, 20m or 1h30m.")
    return float(sum(float(part or 0) * unit for part, unit in zip(parsed.groups(), _UNITS.values(), strict=True)))
