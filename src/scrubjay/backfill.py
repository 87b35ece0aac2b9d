"""Embed items again: in batches, with a journal, to be cut short at any moment and gone on with.

    shop/backfill/g2.jsonl   a line for the start of each stretch of work, for each batch, and for the audit at its end

What is done is what the store says: a vector counts when it is there. The journal tells people, and remembers which
items were left out and why. A line that a kill has torn is passed over.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scrubjay.adding import sample_of
from scrubjay.data.images import ImageOptions
from scrubjay.data.photos import content_hash
from scrubjay.errors import ConfigError, DataError, ImageError, SpaceError
from scrubjay.journal import Journal
from scrubjay.locking import locked
from scrubjay.pool import embed_chunk, embedded, load_embedder
from scrubjay.stores import NORM_TOLERANCE, Item, Space, Store
from scrubjay.types import Embeddings, Sample

BATCH = 128
"""Items of one commit: what a kill can cost."""
ATTEMPTS = 3
AUDITED = 32
"""Vectors that are compared with the same pictures embedded once more, when all is done."""
ALIKE = 0.999
"""The least cosine between both."""
NICE = 10
"""By so much the work lowers its priority, so that live searches go first."""

_UNITS = {"h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop before the end, and how to work.

    Attributes:
        seconds: of work.
        items: to embed.
        until: asked after batches; true stops.
        rate: pictures a second, at most.
        jobs: processes.
        ray: "local" or the address of a Ray cluster.
    """

    seconds: float | None = None
    items: int | None = None
    until: Callable[[], bool] | None = None
    rate: float | None = None
    jobs: int = 1
    ray: str | None = None


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What a backfill did.

    Attributes:
        done: items embedded, in this call.
        skipped: id, URI and reason of those that cannot be: gone, changed, or not to be decoded.
        missing: items that still have no vector in the space, the skipped among them.
        seconds: of this call.
        complete: the audit found every item embedded but those skipped.
        problems: what the audit found else.
    """

    done: int
    skipped: tuple[tuple[str, str, str], ...]
    missing: int
    seconds: float
    complete: bool
    problems: tuple[str, ...] = ()

    @property
    def images_per_second(self) -> float:
        """Pictures embedded a second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0


def seconds_of(text: str) -> float:
    """A length of time.

    >>> seconds_of("1h30m"), seconds_of("90s"), seconds_of("20m")
    (5400.0, 90.0, 1200.0)

    Raises:
        ConfigError: it is none.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigError(f"time {text!r}: write it as 90s, 20m or 1h30m.")
    return float(sum(float(number) * _UNITS[unit] for number, unit in parts))


@dataclass
class Backfill:
    """Work on the items of one space.

    Attributes:
        store: the gallery's.
        space: of the generation.
        generation: its folder.
        images: how pictures are prepared.
        journal: of the space.
        skipped: what was left out, with the reason, by id.
    """

    store: Store
    space: Space
    generation: Path
    images: ImageOptions
    journal: Journal
    skipped: dict[str, tuple[str, str]] = field(default_factory=dict)

    def run(self, order: Sequence[str], limits: Limits) -> Backfilled:
        """Embed items in the given order, those that have a vector by now left out, until a limit or the end.

        Args:
            order: ids.
            limits: when to stop before.

        Raises:
            CatalogueError: another backfill of this space is at work.
            SpaceError: the pictures would not be prepared as for the space.
        """
        with locked(self.journal.path.parent, f"{self.journal.path.stem}.lock"):
            began, done = time.monotonic(), 0
            self.store.create_space(self.space)
            self.journal.write("start", items=len(order), limits=_plain(limits))
            _lower_priority()
            stopped = False
            for found in self._work(order, limits, began):
                done += found
                pause = done / limits.rate - (time.monotonic() - began) if limits.rate else 0.0
                time.sleep(max(0.0, pause))
                if _reached(limits, done, began):
                    stopped = True
                    break
            return self._ended(order, done, began, stopped)

    def _work(self, order: Sequence[str], limits: Limits, began: float) -> Iterator[int]:
        """Numbers of items embedded, batch after batch."""
        handed: dict[int, list[Item]] = {}

        def chunks() -> Iterator[list[Sample]]:
            left = limits.items
            for batch in self._batches(order):
                if left is not None and left <= 0:
                    return
                if limits.seconds is not None and time.monotonic() - began >= limits.seconds:
                    return
                chosen = batch if left is None else batch[:left]
                left = None if left is None else left - len(chosen)
                handed[len(handed)] = chosen
                yield [sample_of(item) for item in chosen]

        for number, found in embedded(self.generation, self.images, chunks(), limits.jobs, limits.ray):
            yield self._store(handed.pop(number) if limits.ray is None else handed[number], found)

    def _batches(self, order: Sequence[str]) -> Iterator[list[Item]]:
        """Items whose pictures are there and unchanged; what is not is listed."""
        waiting = set(self.store.missing(self.space.id))
        todo = [name for name in order if name in waiting]
        batch: list[Item] = []
        for start in range(0, len(todo), BATCH):
            for item in self.store.items(todo[start : start + BATCH]):
                if self._usable(item):
                    batch.append(item)
                if len(batch) == BATCH:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _usable(self, item: Item) -> bool:
        try:
            if content_hash(sample_of(item)) == item.content_hash:
                return True
            reason = "the file has changed since it was added"
        except ImageError:
            reason = "the file is gone or cannot be read"
        except DataError as error:
            reason = str(error)
        self.skipped[item.id] = (item.uri, reason)
        return False

    def _store(self, items: Sequence[Item], found: Embeddings) -> int:
        if found.fingerprint != self.space.fingerprint:
            raise SpaceError(
                f"the vectors would not be those of {self.space.generation}: images.size or images.resize were changed "
                "since it was made; set them back."
            )
        reasons = dict(found.failures)
        good = {int(index) for index in found.indices}
        for index, item in enumerate(items):
            if index not in good:
                self.skipped[item.id] = (item.uri, reasons.get(item.uri, "cannot be decoded"))
        stored = 0
        for _ in range(ATTEMPTS):  # an item may be removed or changed while its picture is embedded, or just now
            there = {item.id: item.content_hash for item in self.store.items([item.id for item in items])}
            rows = [
                (row, items[index].id)
                for row, index in enumerate(found.indices)
                if there.get(items[index].id) == items[index].content_hash
            ]
            with suppress(DataError):
                names, places = [name for _, name in rows], [row for row, _ in rows]
                self.store.put_embeddings(self.space, names, found.vectors[places])
                stored = len(rows)
                break
        skipped = [[item.id, *self.skipped[item.id]] for item in items if item.id in self.skipped]
        self.journal.write("batch", items=stored, skipped=skipped)
        return stored

    def _ended(self, order: Sequence[str], done: int, began: float, stopped: bool) -> Backfilled:
        missing = self.store.missing(self.space.id)
        problems = tuple(self._audit(order))
        left = [name for name in missing if name not in self.skipped]
        skipped = tuple((name, *reason) for name, reason in self.skipped.items())
        seconds = time.monotonic() - began
        result = Backfilled(done, skipped, len(missing), seconds, not left and not problems, problems)
        event = "complete" if result.complete else "stopped"
        self.journal.write(event, **{**asdict(result), "limit": stopped})
        return result

    def _audit(self, order: Sequence[str]) -> Iterator[str]:
        """What is wrong with the vectors that were asked for, as they lie in the store."""
        names, vectors = self.store.vectors(self.space.id, order)
        norms = np.linalg.norm(vectors, axis=1)
        bad = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))
        if bad.size:
            yield f"{bad.size} vectors are not finite or not of unit norm, the first of item {names[bad[0]]}"
        chosen = np.random.default_rng(len(names)).permutation(len(names))[:AUDITED]
        items = [item for item in self.store.items([names[index] for index in chosen]) if self._usable(item)]
        for item in items:
            self.skipped.pop(item.id, None)
        if not items:
            return
        again = embed_chunk(load_embedder(self.generation), [sample_of(item) for item in items], self.images)
        _, stored = self.store.vectors(self.space.id, [items[index].id for index in again.indices])
        if len(stored) == len(again.vectors):
            wrong = int((np.vecdot(stored, again.vectors) < ALIKE).sum())
            if wrong:
                yield f"{wrong} of {len(stored)} vectors looked at are not what the generation makes of their pictures"


def _reached(limits: Limits, done: int, began: float) -> bool:
    if limits.items is not None and done >= limits.items:
        return True
    if limits.seconds is not None and time.monotonic() - began >= limits.seconds:
        return True
    return limits.until is not None and limits.until()


def _plain(limits: Limits) -> dict[str, Any]:
    return {
        **{name: getattr(limits, name) for name in limits.__slots__ if name != "until"},
        "until": bool(limits.until),
    }


def _lower_priority() -> None:
    if os.nice(0) < NICE:
        os.nice(NICE - os.nice(0))
