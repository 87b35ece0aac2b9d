"""The result of one call of a backfill."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backfilled:
    """The result of one call of a backfill.

    Attributes:
        done: number of items that were embedded.
        skipped: id, URI and reason of each item that cannot be embedded, because its image file is missing, has
            changed or cannot be decoded.
        missing: number of items that still have no vector in the space, including the skipped ones.
        seconds: duration of the call.
        complete: every item of the store is embedded except the skipped ones, and the audit found no problem.
        problems: problems that the audit found.
        limit: the limit that ended the call: "seconds", "items" or "until"; None where it worked to the end.
        from_features: number of items that were embedded from their stored features, without their images.
    """

    done: int
    skipped: tuple[tuple[str, str, str], ...]
    missing: int
    seconds: float
    complete: bool
    problems: tuple[str, ...] = ()
    limit: str | None = None
    from_features: int = 0

    @property
    def images_per_second(self) -> float:
        """Number of items that were embedded a second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0
