"""Re-embeds items of the gallery in batches; it can be interrupted at any moment and continued.

    shop/backfill/g2.jsonl   the journal: a line for the start of each run, for each batch, and for the final result
    shop/backfill/g2.lock    locked by the process that runs

Only the store decides what is done: an item is re-embedded when its vector is stored. The journal is for people, and
records which items were skipped and why. Lines that a killed process left incomplete are ignored. Images are embedded
at a low priority (see `scrubjay.backfill.pool`), so that live searches come first.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrubjay.backfill.audit import audit
from scrubjay.backfill.limits import Limits, seconds_of
from scrubjay.backfill.pool import embed_chunks
from scrubjay.backfill.state import exclusive, skipped_ids
from scrubjay.data.images import ImageOptions
from scrubjay.errors import DataError, SpaceError
from scrubjay.gallery.items import image_problem, sample_of
from scrubjay.io.journal import Journal
from scrubjay.progress import track
from scrubjay.stores import NORM_TOLERANCE, Item, Space, Store
from scrubjay.types import Embeddings, Sample

__all__ = ["Backfill", "Backfilled", "Limits", "seconds_of"]

ATTEMPTS = 3
"""Number of attempts to write a batch while other processes delete or replace its items."""


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
        """Number of images that were embedded a second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0


@dataclass
class Backfill:
    """Embeds items of a store with one generation.

    Attributes:
        store: store of the gallery.
        space: embedding space of the generation.
        generation: folder of the generation.
        images: how images are prepared.
        journal: journal of this generation's backfill.
        skipped: URI and reason of each skipped item, by id.
    """

    store: Store
    space: Space
    generation: Path
    images: ImageOptions
    journal: Journal
    skipped: dict[str, tuple[str, str]] = field(default_factory=dict, init=False)
    _unwritten: list[str] = field(default_factory=list, init=False)

    def run(self, order: Sequence[str], limits: Limits) -> Backfilled:
        """Embed the items that have no vector in the space yet, in the given order, up to a limit or to the end.

        Items that an earlier call had to skip are tried again, after all others.

        Args:
            order: ids of the items.
            limits: when to stop early.

        Raises:
            CatalogueError: another backfill of this space is running.
            SpaceError: the images would not be prepared as for the other vectors of the space.
            StorageError: the disk is full, or processes or a cluster failed; what was written until then stays.
        """
        with exclusive(self.journal):
            began, done, tried, limit = time.monotonic(), 0, 0, limits.reached(0, 0.0)
            self.store.create_space(self.space)
            self.skipped, self._unwritten = {}, []
            digest = hashlib.blake2b("\n".join(order).encode(), digest_size=16).hexdigest()
            about = {"generation": self.space.generation, "fingerprint": self.space.fingerprint, "order": digest}
            self.journal.write("start", items=len(order), limits=limits.to_json(), **about)
            if limit is None:
                with closing(self._work(order, limits, began)) as work:
                    for batch_tried, batch_stored in work:
                        tried, done = tried + batch_tried, done + batch_stored
                        time.sleep(limits.pause(tried, time.monotonic() - began))
                        limit = limits.reached(tried, time.monotonic() - began)
                        if limit is None and limits.until is not None and limits.until():
                            limit = "until"
                        if limit is not None:
                            break
            return self._finish(order, done, began, limit)

    def _work(self, order: Sequence[str], limits: Limits, began: float) -> Generator[tuple[int, int], None, None]:
        """Embed and store batch after batch; yields how many items of each were tried and how many were stored."""
        missing = set(self.store.missing(self.space.id))
        todo = [name for name in dict.fromkeys(order) if name in missing]
        skipped_before = skipped_ids(self.journal)
        todo.sort(key=skipped_before.__contains__)  # otherwise they would use up the limit of every call
        batches: dict[int, list[Item]] = {}

        def chunks() -> Iterator[list[Sample]]:
            tried = 0
            for number, batch in enumerate(self._batches(todo, limits.batch)):
                if limits.reached(tried, time.monotonic() - began):
                    return
                batches[number] = batch if limits.items is None else batch[: limits.items - tried]
                tried += len(batches[number])
                yield [_sample(item) for item in batches[number]]

        results = embed_chunks(self.generation, self.images, chunks(), limits.jobs, limits.ray)
        with closing(results):
            for number, embeddings in track(results, f"re-embed {len(todo)} items", -(-len(todo) // limits.batch)):
                items = batches.pop(number)
                yield len(items), self._store(items, embeddings)

    def _batches(self, todo: Sequence[str], size: int) -> Iterator[list[Item]]:
        """Batches of items whose images are present and unchanged; the others are skipped."""
        batch: list[Item] = []
        for start in range(0, len(todo), size):
            for item in self.store.items(todo[start : start + size]):
                if self._check_image(item):
                    batch.append(item)
                if len(batch) == size:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _check_image(self, item: Item) -> bool:
        """Whether the image of an item is present and unchanged; otherwise the item is skipped."""
        reason = image_problem(item)
        if reason is not None:
            self._skip(item, reason)
        return reason is None

    def _skip(self, item: Item, reason: str) -> None:
        self.skipped[item.id] = (item.uri, reason)
        self._unwritten.append(item.id)

    def _store(self, items: Sequence[Item], embeddings: Embeddings) -> int:
        """Write the vectors of a batch in one commit, and a line to the journal. Returns the number of vectors."""
        if embeddings.fingerprint != self.space.fingerprint:
            raise SpaceError(
                f"the vectors would not be those of {self.space.generation}: images.size or images.resize were changed "
                "after it was made; restore them."
            )
        stored = self._put(self._usable(items, embeddings), embeddings.vectors)
        skipped = [[name, *self.skipped[name]] for name in dict.fromkeys(self._unwritten)]
        self._unwritten = []
        self.journal.write("batch", items=stored, skipped=skipped)
        return stored

    def _usable(self, items: Sequence[Item], embeddings: Embeddings) -> list[tuple[Item, int]]:
        """Items with the rows of their vectors, where image and vector are sound; the other items are skipped."""
        rows = {int(index): row for row, index in enumerate(embeddings.indices)}
        reasons = dict(embeddings.failures)
        is_unit = np.abs(np.linalg.norm(embeddings.vectors, axis=1) - 1) <= NORM_TOLERANCE
        usable = []
        for index, item in enumerate(items):
            if not self._check_image(item):  # a second time: the file may have changed before it was decoded
                continue
            if index not in rows:
                path = str(_sample(item).path)
                self._skip(item, reasons.get(path, "cannot be decoded; save it again as JPEG or PNG."))
            elif not is_unit[rows[index]]:
                self._skip(item, "the network's embedding of it is not finite")
            else:
                usable.append((item, rows[index]))
        return usable

    def _put(self, usable: Sequence[tuple[Item, int]], vectors: NDArray[np.float32]) -> int:
        """Write the vectors of items that still exist with the same content; returns the number of vectors."""
        for _ in range(ATTEMPTS):  # another process may delete or replace an item between the check and the write
            stored = {item.id: item.content_hash for item in self.store.items([item.id for item, _ in usable])}
            kept = [(item.id, row) for item, row in usable if stored.get(item.id) == item.content_hash]
            with suppress(DataError):
                self.store.put_embeddings(self.space, [name for name, _ in kept], vectors[[row for _, row in kept]])
                return len(kept)
        return 0

    def _finish(self, order: Sequence[str], done: int, began: float, limit: str | None) -> Backfilled:
        """Audit the stored vectors, and write the result to the journal."""
        problems = tuple(audit(self.store, self.space, order, self._embed_again))
        missing = self.store.missing(self.space.id)
        complete = not problems and self.skipped.keys() >= set(missing)
        skipped = tuple((name, *entry) for name, entry in self.skipped.items())
        result = Backfilled(done, skipped, len(missing), time.monotonic() - began, complete, problems, limit)
        self.journal.write("complete" if complete else "stopped", **asdict(result))
        return result

    def _embed_again(self, items: Sequence[Item]) -> tuple[list[str], Embeddings]:
        """Embed the readable images of items; returns the ids of those that could be embedded, and their vectors."""
        readable = [item for item in items if image_problem(item) is None]
        _, embeddings = next(embed_chunks(self.generation, self.images, [[_sample(item) for item in readable]]))
        return [readable[index].id for index in embeddings.indices], embeddings


def _sample(item: Item) -> Sample:
    """The image of an item with an absolute path, which processes in other folders understand."""
    sample = sample_of(item)
    return replace(sample, path=sample.path.absolute())
