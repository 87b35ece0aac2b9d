"""Shadow answers: a second generation answers a share of the live queries as well, and both answers are compared.

A live search only marks a query for the shadow generation; the choice depends on the image alone. The shadow generation
answers the marked queries later, so no live search waits for it.
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
"""Niceness of the thread that computes shadow answers."""
_PAUSES_AFTER_ERROR = 60  # the next query would most likely fail in the same way
_SHOWN = 10  # number of changed answers that are listed
logger = logging.getLogger(__name__)

Answer = Callable[[Query], Sequence[Hit]]
"""Returns the hits of the shadow generation for a query."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Both generations' answers to the same queries. Live queries have no labels, so it is not known which is right.

    Attributes:
        queries: number of queries that both generations have answered.
        same_item: share of them with the same best item.
        same_label: share of them whose best items have the same label.
        overlap: mean share of the serving generation's hits that the shadow generation finds as well.
        match: mean probability of a match of the best item, by the serving and by the shadow generation; None where
            a query was answered without calibration.
        changed: the queries whose best items have different labels.
    """

    queries: int
    same_item: float
    same_label: float
    overlap: float
    match: tuple[float | None, float | None]
    changed: tuple[Query, ...]

    def lines(self) -> list[str]:
        """The comparison as lines for a terminal."""
        if not self.queries:
            return ["no query was answered by both generations yet."]
        lines = [
            f"{self.queries} {'query was' if self.queries == 1 else 'queries were'} answered by both generations.",
            f"the same best item: {self.same_item:.1%}, of the same class: {self.same_label:.1%}; "
            f"items in common: {self.overlap:.1%}",
        ]
        if None not in self.match:
            lines.append(f"mean probability of a match: {self.match[0]:.2f} serving, {self.match[1]:.2f} shadow")
        for query in self.changed[:_SHOWN]:
            (_, _, before, _), (_, _, after, _) = query.hits[0], (query.shadow_hits or ())[0]
            lines.append(f"  {query.image or query.content}: {before or '–'} → {after or '–'}")
        if len(self.changed) > _SHOWN:
            lines.append(f"  and {len(self.changed) - _SHOWN} more")
        return [
            *lines,
            "queries have no labels, so neither answer is known to be right: look at the images, or run the gate.",
        ]


def selected(content: str, share: float) -> bool:
    """Whether the shadow generation answers a query as well.

    >>> selected("00" * 16, 0.1), selected("ff" * 16, 0.1), selected("ff" * 16, 1.0)
    (True, False, True)

    Args:
        content: hash of the image, hexadecimal.
        share: share of all images that are selected, 0 to 1.
    """
    return int(content[:8], 16) < share * 2**32


def answer_pending(log: QueryLog, answer: Answer, number: int = KEPT) -> int:
    """Let the shadow generation answer its pending queries; returns how many queries were processed.

    A query that can no longer be answered, because its image or the generation is missing, gets an empty answer.

    Args:
        log: log of the queries.
        answer: computes a shadow answer. `ImageError` and `CatalogueError` give an empty answer; any other error is
            raised, and the query stays pending.
        number: largest number of queries; the oldest come first.

    Raises:
        StorageError: the log cannot be read or written.
    """
    pending = log.pending(number)
    for query in track(pending, f"compute {len(pending)} shadow answers", len(pending)):
        try:
            hits = answer(query)
        except (ImageError, CatalogueError) as error:
            logger.warning("%s: no shadow answer (%s)", query.image, error)
            hits = ()
        log.add_shadow_hits(query, hits)
    return len(pending)


def compare(queries: Sequence[Query]) -> Compared:
    """Compare both answers of each query; queries without hits of one generation are left out."""
    both = [query for query in queries if query.hits and query.shadow_hits]
    pairs: list[tuple[Any, Any]] = [(query.hits, query.shadow_hits) for query in both]
    return Compared(
        len(both),
        _share([hits[0][0] == shadow_hits[0][0] for hits, shadow_hits in pairs]),
        _share([hits[0][2] == shadow_hits[0][2] for hits, shadow_hits in pairs]),
        _share(
            [len({hit[0] for hit in hits} & {hit[0] for hit in shadow_hits}) / len(hits) for hits, shadow_hits in pairs]
        ),
        (_match([hits[0][3] for hits, _ in pairs]), _match([shadow_hits[0][3] for _, shadow_hits in pairs])),
        tuple(query for query, (hits, shadow_hits) in zip(both, pairs, strict=True) if hits[0][2] != shadow_hits[0][2]),
    )


class ShadowWorker:
    """A thread that computes shadow answers while the process answers live queries.

    Args:
        log: log of the queries.
        answer: computes a shadow answer.
        pause: seconds between two reads of an empty log.
    """

    def __init__(self, log: QueryLog, answer: Answer, pause: float = 1.0) -> None:
        self._log, self._answer, self._pause = log, answer, pause
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread after the query that it is answering."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        if sys.platform == "linux":  # on other systems a thread has no priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while not self._end.is_set():
            self._end.wait(self._step())

    def _step(self) -> float:
        """Answer one query; returns the seconds to wait before the next."""
        try:
            return 0 if answer_pending(self._log, self._answer, 1) else self._pause
        except Exception as error:  # no caller can handle it, and live queries must continue
            logger.warning("no shadow answers for %g s: %s", _PAUSES_AFTER_ERROR * self._pause, error)
            return _PAUSES_AFTER_ERROR * self._pause


def _share(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _match(values: Sequence[float | None]) -> float | None:
    return None if not values or None in values else float(np.mean(np.array(values, dtype=np.float64)))
