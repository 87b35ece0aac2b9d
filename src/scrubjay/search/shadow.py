"""Another generation answers a share of the live queries too, afterwards, and both answers are compared.

When a query is answered, it is only marked; which ones is a function of the image alone. The other generation works
through the marked ones later: no answer waits for it.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scrubjay.errors import CatalogueError, ImageError
from scrubjay.progress import track
from scrubjay.search.query_log import KEPT, Query, QueryLog
from scrubjay.types import Hit

NICE = 10
"""The priority of answers in the shadow, as of `nice`."""
_REST = 60  # pauses after an error that the next query would meet too
_SHOWN = 10  # changed answers in a terminal
logger = logging.getLogger(__name__)

Answer = Callable[[Query], Sequence[Hit]]
"""What the other generation finds for a query."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Both answers to the same queries. Which one is right is not known: no query has a label.

    Attributes:
        queries: that both have answered.
        same_item: share with the same best item.
        same_label: share with the same class of the best item.
        overlap: mean share of the first generation's items that the other finds too.
        match: mean probability of a match of the best item, by each; None where nothing was calibrated.
        changed: those whose best item is of another class.
    """

    queries: int
    same_item: float
    same_label: float
    overlap: float
    match: tuple[float | None, float | None]
    changed: tuple[Query, ...]

    def lines(self) -> list[str]:
        """For a terminal."""
        if not self.queries:
            return ["no query was answered by both yet."]
        lines = [
            f"{self.queries} {'query was' if self.queries == 1 else 'queries were'} answered by both.",
            f"the same best item: {self.same_item:.1%}, of the same class: {self.same_label:.1%}; "
            f"items in common: {self.overlap:.1%}",
        ]
        if None not in self.match:
            lines.append(
                f"mean probability of a match: {self.match[0]:.2f} as answered, {self.match[1]:.2f} in the shadow"
            )
        for query in self.changed[:_SHOWN]:
            (_, _, before, _), (_, _, after, _) = query.hits[0], (query.shadow_hits or ())[0]
            lines.append(f"  {query.image or query.content}: {before or '–'} → {after or '–'}")
        if len(self.changed) > _SHOWN:
            lines.append(f"  and {len(self.changed) - _SHOWN} more")
        return [*lines, "which of both is right, no query says: look at the images, or ask the gate."]


def selected(content: str, share: float) -> bool:
    """Whether a query is to be answered by the shadow generation too.

    >>> selected("00" * 16, 0.1), selected("ff" * 16, 0.1), selected("ff" * 16, 1.0)
    (True, False, True)

    Args:
        content: hash of the image, hexadecimal.
        share: of all images, 0 … 1.
    """
    return int(content[:8], 16) < share * 2**32


def answer_pending(log: QueryLog, answer: Answer, number: int = KEPT) -> int:
    """Let the shadow generation answer what it has yet to; returns how many it looked at.

    A query that cannot be answered any more, because its image or the generation is gone, gets an empty answer.

    Args:
        log: of the queries.
        answer: what answers in the shadow. Other errors than those two are its caller's: the query stays pending.
        number: of queries at most, oldest first.

    Raises:
        StorageError: the log cannot be read or written.
    """
    pending = log.pending(number)
    for query in track(pending, f"answer {len(pending)} queries in the shadow", len(pending)):
        try:
            hits = answer(query)
        except (ImageError, CatalogueError) as error:
            logger.warning("%s: no answer in the shadow (%s)", query.image, error)
            hits = ()
        log.answer(query, hits)
    return len(pending)


def compare(queries: Sequence[Query]) -> Compared:
    """Both answers side by side; queries to which one of them found nothing are left out."""
    both = [query for query in queries if query.hits and query.shadow_hits]
    pairs: list[tuple[Any, Any]] = [(query.hits, query.shadow_hits) for query in both]
    return Compared(
        len(both),
        _share([one[0][0] == other[0][0] for one, other in pairs]),
        _share([one[0][2] == other[0][2] for one, other in pairs]),
        _share([len({hit[0] for hit in one} & {hit[0] for hit in other}) / len(one) for one, other in pairs]),
        (_match([one[0][3] for one, _ in pairs]), _match([other[0][3] for _, other in pairs])),
        tuple(query for query, (one, other) in zip(both, pairs, strict=True) if one[0][2] != other[0][2]),
    )


class Shadowing:
    """A thread that lets the shadow generation answer while a process goes on answering live queries.

    Args:
        log: of the queries.
        answer: what answers in the shadow.
        pause: seconds between two looks at the log.
    """

    def __init__(self, log: QueryLog, answer: Answer, pause: float = 1.0) -> None:
        self._log, self._answer, self._pause = log, answer, pause
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the query that is being answered."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        if sys.platform == "linux":  # elsewhere a thread has no priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while not self._end.is_set():
            self._end.wait(self._step())

    def _step(self) -> float:
        """Answer one query; returns the seconds to wait."""
        try:
            return 0 if answer_pending(self._log, self._answer, 1) else self._pause
        except Exception as error:  # there is nobody to raise it to: live queries go on
            logger.warning("no answers in the shadow for %g s: %s", _REST * self._pause, error)
            return _REST * self._pause


def _share(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _match(values: Sequence[float | None]) -> float | None:
    return None if not values or None in values else float(np.mean(np.array(values, dtype=np.float64)))
