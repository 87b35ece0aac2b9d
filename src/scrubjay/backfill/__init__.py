"""Embed items again: in batches, with a journal, to be cut short at any moment and gone on with.

    shop/backfill/g2.jsonl   a line for the start of each stretch of work, for each batch, and for the audit at its end
    shop/backfill/g2.lock    held by the process that is at work

What is done is what the store says: a vector counts when it is there. The journal tells people, and remembers which
items were left out and why. A line that a kill has torn is passed over. Images are embedded at a low priority (see
`scrubjay.backfill.pool`), so that live searches go first.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrubjay.backfill.audit import audit
from scrubjay.backfill.limits import Limits, seconds_of
from scrubjay.backfill.pool import embedded
from scrubjay.backfill.state import left_out, locked_for
from scrubjay.data.images import ImageOptions
from scrubjay.errors import DataError, SpaceError
from scrubjay.gallery.items import image_problem, sample_of
from scrubjay.io.journal import Journal
from scrubjay.progress import track
from scrubjay.stores import NORM_TOLERANCE, Item, Space, Store
from scrubjay.types import Embeddings, Sample

__all__ = ["Backfill", "Backfilled", "Limits", "seconds_of"]

ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What a backfill did.

    Attributes:
        done: items embedded, in this call.
        skipped: id, URI and reason of those that cannot be: gone, changed, or not to be decoded.
        missing: items that still have no vector in the space, the skipped among them.
        seconds: of this call.
        complete: every item of the store is embedded but those skipped, and the audit found nothing wrong.
        problems: what the audit found wrong.
        limit: which of the limits stopped it: "seconds", "items" or "until"; None where it went to the end.
    """

    done: int
    skipped: tuple[tuple[str, str, str], ...]
    missing: int
    seconds: float
    complete: bool
    problems: tuple[str, ...] = ()
    limit: str | None = None

    @property
    def images_per_second(self) -> float:
        """Images embedded a second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0


@dataclass
class Backfill:
    """Work on the items of one space.

    Attributes:
        store: the gallery's.
        space: of the generation.
        generation: its folder.
        images: how images are prepared.
        journal: of the space.
        skipped: what was left out, by id: URI and reason.
    """

    store: Store
    space: Space
    generation: Path
    images: ImageOptions
    journal: Journal
    skipped: dict[str, tuple[str, str]] = field(default_factory=dict, init=False)
    _unwritten: list[str] = field(default_factory=list, init=False)

    def run(self, order: Sequence[str], limits: Limits) -> Backfilled:
        """Embed items in the given order, those that have a vector by now left out, until a limit or the end.

        Items that an earlier call had to leave out are tried again, after all others.

        Args:
            order: ids.
            limits: when to stop before.

        Raises:
            CatalogueError: another backfill of this space is at work.
            SpaceError: the images would not be prepared as for the space.
            StorageError: the disk is full, or processes or a cluster failed; what was done until then stays.
        """
        with locked_for(self.journal):
            began, done, tried, limit = time.monotonic(), 0, 0, limits.reached(0, 0.0)
            self.store.create_space(self.space)
            self.skipped, self._unwritten = {}, []
            digest = hashlib.blake2b("\n".join(order).encode(), digest_size=16).hexdigest()
            about = {"generation": self.space.generation, "fingerprint": self.space.fingerprint, "order": digest}
            self.journal.write("start", items=len(order), limits=limits.to_json(), **about)
            with closing(self._work(order, limits, began)) as work:
                for handed, stored in () if limit else work:
                    tried, done = tried + handed, done + stored
                    time.sleep(limits.pause(tried, time.monotonic() - began))
                    limit = limits.reached(tried, time.monotonic() - began)
                    if limit is None and limits.until is not None and limits.until():
                        limit = "until"
                    if limit is not None:
                        break
            return self._ended(order, done, began, limit)

    def _work(self, order: Sequence[str], limits: Limits, began: float) -> Generator[tuple[int, int], None, None]:
        """Numbers of items tried and embedded, batch after batch."""
        waiting = set(self.store.missing(self.space.id))
        todo = [name for name in dict.fromkeys(order) if name in waiting]
        last = left_out(self.journal)
        todo.sort(key=last.__contains__)  # else those that cannot be embedded use up the limit of every call
        handed: dict[int, list[Item]] = {}

        def chunks() -> Iterator[list[Sample]]:
            tried = 0
            for number, batch in zip(count(), self._batches(todo, limits.batch), strict=False):
                if limits.reached(tried, time.monotonic() - began):
                    return
                handed[number] = batch if limits.items is None else batch[: limits.items - tried]
                tried += len(handed[number])
                yield [_sample(item) for item in handed[number]]

        found = embedded(self.generation, self.images, chunks(), limits.jobs, limits.ray)
        with closing(found):
            for number, vectors in track(found, f"embed {len(todo)} items again", -(-len(todo) // limits.batch)):
                items = handed.pop(number)
                yield len(items), self._store(items, vectors)

    def _batches(self, todo: Sequence[str], size: int) -> Iterator[list[Item]]:
        """Items whose images are there and unchanged; what is not is listed."""
        batch: list[Item] = []
        for start in range(0, len(todo), size):
            for item in self.store.items(todo[start : start + size]):
                if self._intact(item):
                    batch.append(item)
                if len(batch) == size:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _intact(self, item: Item) -> bool:
        reason = image_problem(item)
        return reason is None or self._leave_out(item, reason)

    def _leave_out(self, item: Item, reason: str) -> bool:
        self.skipped[item.id] = (item.uri, reason)
        self._unwritten.append(item.id)
        return False

    def _store(self, items: Sequence[Item], found: Embeddings) -> int:
        """Write the vectors of a batch in one commit, and a line of the journal. Returns how many."""
        if found.fingerprint != self.space.fingerprint:
            raise SpaceError(
                f"the vectors would not be those of {self.space.generation}: images.size or images.resize were changed "
                "since it was made; set them back."
            )
        stored = self._put(self._good(items, found), found.vectors)
        skipped = [[name, *self.skipped[name]] for name in dict.fromkeys(self._unwritten)]
        self._unwritten = []
        self.journal.write("batch", items=stored, skipped=skipped)
        return stored

    def _good(self, items: Sequence[Item], found: Embeddings) -> list[tuple[Item, int]]:
        """Items with the rows of their vectors, where these can be relied on; the others are listed."""
        rows = {int(index): row for row, index in enumerate(found.indices)}
        reasons = dict(found.failures)
        fine = np.abs(np.linalg.norm(found.vectors, axis=1) - 1) <= NORM_TOLERANCE
        good = []
        for index, item in enumerate(items):
            if not self._intact(item):  # looked at again: it may have changed before it was decoded
                continue
            if index not in rows:
                path = str(_sample(item).path)
                self._leave_out(item, reasons.get(path, "cannot be decoded; save it again as JPEG or PNG."))
            elif not fine[rows[index]]:
                self._leave_out(item, "what the network makes of it is not finite")
            else:
                good.append((item, rows[index]))
        return good

    def _put(self, good: Sequence[tuple[Item, int]], vectors: NDArray[np.float32]) -> int:
        for _ in range(ATTEMPTS):  # an item may be removed or replaced while its image is embedded, or just now
            there = {item.id: item.content_hash for item in self.store.items([item.id for item, _ in good])}
            kept = [(item.id, row) for item, row in good if there.get(item.id) == item.content_hash]
            with suppress(DataError):
                self.store.put_embeddings(self.space, [name for name, _ in kept], vectors[[row for _, row in kept]])
                return len(kept)
        return 0

    def _ended(self, order: Sequence[str], done: int, began: float, limit: str | None) -> Backfilled:
        problems = tuple(audit(self.store, self.space, order, self._again))
        missing = self.store.missing(self.space.id)
        complete = not problems and self.skipped.keys() >= set(missing)
        skipped = tuple((name, *entry) for name, entry in self.skipped.items())
        result = Backfilled(done, skipped, len(missing), time.monotonic() - began, complete, problems, limit)
        self.journal.write("complete" if complete else "stopped", **asdict(result))
        return result

    def _again(self, items: Sequence[Item]) -> tuple[list[str], Embeddings]:
        """Embed items whose images are still there once more; ids of those that could be, and their vectors."""
        there = [item for item in items if image_problem(item) is None]
        _, found = next(embedded(self.generation, self.images, [[_sample(item) for item in there]]))
        return [there[index].id for index in found.indices], found


def _sample(item: Item) -> Sample:
    """With a path that processes elsewhere understand."""
    sample = sample_of(item)
    return replace(sample, path=sample.path.absolute())
