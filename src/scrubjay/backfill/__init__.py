"""Re-embeds items of the gallery in batches; it can be interrupted at any moment and continued.

    shop/backfill/g2.jsonl   the journal: a line for the start of each run, for each batch, and for the final result
    shop/backfill/g2.lock    locked by the process that runs

Items whose trunk features are stored come first: their vectors are a matrix product, without an image. The images of
the others are embedded. Only the store decides what is done: an item is re-embedded when its vector is stored. The
journal is for people, and records which items were skipped and why. Lines that a killed process left incomplete are
ignored. The work has a low priority (see `scrubjay.backfill.pool`), so that live searches come first.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scrubjay.backfill.audit import audit
from scrubjay.backfill.limits import Limits, seconds_of
from scrubjay.backfill.pool import Embedded, background, embed_chunks, load_encoder
from scrubjay.backfill.result import Backfilled
from scrubjay.backfill.state import exclusive, skipped_ids
from scrubjay.data.images import ImageOptions
from scrubjay.errors import DataError, SpaceError
from scrubjay.gallery.features import FeatureWriter, lacking_features, projected
from scrubjay.gallery.items import image_problem, sample_of
from scrubjay.io.journal import Journal
from scrubjay.progress import track
from scrubjay.stores import NORM_TOLERANCE, Item, Space, Store
from scrubjay.types import Embeddings, Sample, TrunkFeatures

if TYPE_CHECKING:
    from scrubjay.models.embedding import Encoder

__all__ = ["Backfill", "Backfilled", "Limits", "seconds_of"]

ATTEMPTS = 3
"""Number of attempts to write a batch while other processes delete or replace its items."""


@dataclass
class Backfill:
    """Embeds items of a store with one generation.

    Attributes:
        store: store of the gallery.
        space: embedding space of the generation.
        generation: folder of the generation.
        images: how images are prepared.
        journal: journal of this generation's backfill.
        features: stores the trunk features of images that are embedded; None where they are not kept.
        skipped: URI and reason of each skipped item, by id.
    """

    store: Store
    space: Space
    generation: Path
    images: ImageOptions
    journal: Journal
    features: FeatureWriter | None = None
    skipped: dict[str, tuple[str, str]] = field(default_factory=dict, init=False)
    _unwritten: list[str] = field(default_factory=list, init=False)
    _from_features: int = field(default=0, init=False)

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder of the generation."""
        return load_encoder(self.generation, self.images)

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
            self.skipped, self._unwritten, self._from_features = {}, [], 0
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
        self._refuse_unless(self.encoder.fingerprint == self.space.fingerprint)
        todo, tried = self._missing(order), 0
        for batch_tried, batch_stored in self._reproject(todo, limits):
            tried += batch_tried
            yield batch_tried, batch_stored
        if tried:
            todo = self._missing(todo)
        if todo and not limits.reached(tried, time.monotonic() - began):
            items = None if limits.items is None else limits.items - tried
            yield from self._embed(todo, replace(limits, items=items), began)

    def _missing(self, order: Sequence[str]) -> list[str]:
        """The items that have no vector in the space yet, in the given order, those once skipped at the end."""
        missing, skipped_before = set(self.store.missing(self.space.id)), skipped_ids(self.journal)
        todo = [name for name in dict.fromkeys(order) if name in missing]
        todo.sort(key=skipped_before.__contains__)  # otherwise they would use up the limit of every call
        return todo

    def _reproject(self, todo: Sequence[str], limits: Limits) -> Generator[tuple[int, int], None, None]:
        """Store the vectors of those items whose features are stored, up to the limit of items."""
        lacking = lacking_features(self.store, self.encoder.era)
        held = [] if lacking is None else [name for name in todo if name not in lacking][: limits.items]
        starts = range(0, len(held), limits.feature_batch)
        with background() as thread:
            for start in track(starts, f"re-project {len(held)} items", len(starts)):
                names = held[start : start + limits.feature_batch]
                items = {item.id: item for item in self.store.items(names)}  # before the features: see `_put`
                ids, features = self.store.features.read(self.encoder.era, names)
                vectors = thread.submit(self.encoder.project, features).result()
                rows = np.flatnonzero(_is_unit(vectors)).tolist()
                stored = self._put([(items[ids[row]], row) for row in rows if ids[row] in items], vectors)
                self.journal.write("batch", items=stored, skipped=[], source="features")
                self._from_features += stored
                yield len(names), stored

    def _embed(self, todo: Sequence[str], limits: Limits, began: float) -> Generator[tuple[int, int], None, None]:
        """Embed the images of items, and store their vectors, and their features where these are kept."""
        batches: dict[int, list[Item]] = {}

        def chunks() -> Iterator[list[Sample]]:
            tried = 0
            for number, batch in enumerate(self._batches(todo, limits.batch)):
                if limits.reached(tried, time.monotonic() - began):
                    return
                batches[number] = batch if limits.items is None else batch[: limits.items - tried]
                tried += len(batches[number])
                yield [_sample(item) for item in batches[number]]

        keep = self.features is not None
        results = embed_chunks(self.generation, self.images, chunks(), limits.jobs, limits.ray, keep)
        with closing(results):
            for number, embedded in track(results, f"re-embed {len(todo)} items", -(-len(todo) // limits.batch)):
                items = batches.pop(number)
                yield len(items), self._store(items, embedded)

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

    def _store(self, items: Sequence[Item], embedded: Embedded) -> int:
        """Write the vectors of a batch in one commit, and a line to the journal. Returns the number of vectors."""
        if isinstance(embedded, TrunkFeatures):
            self._refuse_unless(embedded.era == self.encoder.era)
            embeddings, features = projected(self.encoder, embedded), embedded.features
        else:
            self._refuse_unless(embedded.fingerprint == self.space.fingerprint)
            embeddings, features = embedded, None
        stored = self._put(self._usable(items, embeddings), embeddings.vectors, features)
        skipped = [[name, *self.skipped[name]] for name in dict.fromkeys(self._unwritten)]
        self._unwritten = []
        self.journal.write("batch", items=stored, skipped=skipped, source="images")
        return stored

    def _refuse_unless(self, same: bool) -> None:
        if not same:
            raise SpaceError(
                f"the vectors would not be those of {self.space.generation}: images.size or images.resize were changed "
                "after it was made; restore them."
            )

    def _usable(self, items: Sequence[Item], embeddings: Embeddings) -> list[tuple[Item, int]]:
        """Items with the rows of their vectors, where image and vector are sound; the other items are skipped."""
        rows = {int(index): row for row, index in enumerate(embeddings.indices)}
        reasons = dict(embeddings.failures)
        is_unit = _is_unit(embeddings.vectors)
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

    def _put(
        self,
        usable: Sequence[tuple[Item, int]],
        vectors: NDArray[np.float32],
        features: NDArray[np.float32] | None = None,
    ) -> int:
        """Write the rows of vectors, and of features, of items that still exist with the content that they had before.

        Returns:
            Number of vectors.
        """
        for _ in range(ATTEMPTS):  # another process may delete or replace an item between the check and the write
            stored = {item.id: item.content_hash for item in self.store.items([item.id for item, _ in usable])}
            kept = [(item.id, row) for item, row in usable if stored.get(item.id) == item.content_hash]
            names, rows = [name for name, _ in kept], [row for _, row in kept]
            with suppress(DataError):
                if self.features is not None and features is not None:
                    self.features.write(self.encoder, names, features[rows])
                self.store.put_embeddings(self.space, names, vectors[rows])
                return len(kept)
        return 0

    def _finish(self, order: Sequence[str], done: int, began: float, limit: str | None) -> Backfilled:
        """Audit the stored vectors, and write the result to the journal."""
        problems = tuple(audit(self.store, self.space, order, self._embed_again))
        missing = self.store.missing(self.space.id)
        complete = not problems and self.skipped.keys() >= set(missing)
        skipped = tuple((name, *entry) for name, entry in self.skipped.items())
        seconds = time.monotonic() - began
        result = Backfilled(done, skipped, len(missing), seconds, complete, problems, limit, self._from_features)
        self.journal.write("complete" if complete else "stopped", **asdict(result))
        return result

    def _embed_again(self, items: Sequence[Item]) -> tuple[list[str], NDArray[np.float32]]:
        """Embed items by their stored features, else by their images; returns the ids of those that could be embedded.

        The vectors are float32 (N, d), in the order of the ids.
        """
        names: list[str] = []
        vectors = np.empty((0, self.space.dim), np.float32)
        if lacking_features(self.store, self.encoder.era) is not None:
            names, features = self.store.features.read(self.encoder.era, [item.id for item in items])
            vectors = self.encoder.project(features)
        readable = [item for item in items if item.id not in names and image_problem(item) is None]
        if not readable:
            return names, vectors
        _, embeddings = next(embed_chunks(self.generation, self.images, [[_sample(item) for item in readable]]))
        assert isinstance(embeddings, Embeddings)
        names += [readable[index].id for index in embeddings.indices]
        return names, np.concatenate([vectors, embeddings.vectors])


def _is_unit(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which vectors (N, d) are finite and of unit norm."""
    is_unit: NDArray[np.bool_] = np.abs(np.linalg.norm(vectors, axis=1) - 1) <= NORM_TOLERANCE
    return is_unit


def _sample(item: Item) -> Sample:
    """The image of an item with an absolute path, which processes in other folders understand."""
    sample = sample_of(item)
    return replace(sample, path=sample.path.absolute())
