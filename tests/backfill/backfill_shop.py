"""A gallery that a backfill re-embeds, in this process or in one that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import tiny
from scrubjay.backfill import Backfill, Backfilled, Limits
from scrubjay.data.photos import content_hash
from scrubjay.gallery.features import FeatureWriter
from scrubjay.gallery.items import sample_of
from scrubjay.generations.lineage import Lineage
from scrubjay.io.journal import Journal
from scrubjay.models.embedding import Encoder, space_fingerprint
from scrubjay.stores import Encoding, Item, Space, open_store
from scrubjay.stores.lancedb import LanceStore
from scrubjay.types import Sample
from tiny import IMAGES, NETWORK, learner, paint

BATCH = 16
"""Items of a batch in these tests."""


@dataclass
class Shop:
    """A gallery whose items have a vector of g0, and a generation g1 that re-embeds them."""

    folder: Path
    items: list[Item]
    old: Space
    new: Space

    @property
    def store(self) -> LanceStore:
        store = open_store(f"lancedb://{self.folder / 'gallery'}")
        assert isinstance(store, LanceStore)
        return store

    @property
    def order(self) -> list[str]:
        return [item.id for item in self.items]

    @property
    def journal(self) -> Path:
        return self.folder / "backfill" / "g1.jsonl"

    def encoder(self, name: str) -> Encoder:
        lineage = Lineage(self.folder / "generations")
        return Encoder(lineage.network(lineage.get(name)).embedder, IMAGES)

    def keep_features(self, ids: Sequence[str] | None = None, encoding: Encoding = "float16") -> None:
        """Store the trunk features of items, all by default, as g0 takes them."""
        items = [item for item in self.items if ids is None or item.id in ids]
        encoder = self.encoder("g0")
        features = encoder.features([sample_of(item) for item in items]).features
        FeatureWriter(self.store, encoding).write(encoder, [item.id for item in items], features)

    def work(self, encoding: Encoding | None = None) -> Backfill:
        folder, journal = self.folder / "generations" / "g1", Journal(self.journal)
        features = None if encoding is None else FeatureWriter(self.store, encoding)
        return Backfill(self.store, self.new, folder, IMAGES, journal, features)

    def run(self, order: Sequence[str] | None = None, **limits: object) -> Backfilled:
        return self.work().run(self.order if order is None else order, Limits(**limits))  # type: ignore[arg-type]

    def vectors(self) -> dict[str, np.ndarray]:
        return dict(zip(*self.store.vectors("g1"), strict=True))

    def rows(self) -> list[str]:
        """Ids of all stored vectors of the space, including duplicates."""
        return [name for names, _, _ in self.store.stored("g1") for name in names]

    def expected(self) -> dict[str, np.ndarray]:
        embedded = self.encoder("g1").embed([sample_of(item) for item in self.items])
        return dict(zip(self.order, embedded.vectors, strict=True))


def alike(one: dict[str, np.ndarray], other: dict[str, np.ndarray], atol: float = 1e-5) -> None:
    """Compare with a tolerance: in batches below 16, the last bits of a convolution depend on the size of the batch."""
    assert one.keys() == other.keys()
    for name, vector in one.items():
        np.testing.assert_allclose(vector, other[name], atol=atol)


def opened(folder: Path, number: int) -> Shop:
    spaces = []
    lineage = Lineage(folder / "generations")
    for dim in (8, 16):
        method = learner(network=NETWORK.model_copy(update={"dim": dim}))
        fingerprint = space_fingerprint(method.network.embedder, IMAGES)
        name = lineage.add(method, tiny.record(fingerprint=fingerprint)).name
        spaces.append(Space(name, dim, fingerprint, name))
    samples = [Sample(paint(folder / "images" / f"{index}.png", index % 7, index), 0) for index in range(number)]
    samples[3] = replace(samples[3], box=(4, 4, 30, 30))
    names = [content_hash(sample) for sample in samples]
    items = [
        Item(name, str(sample.path), name, metadata={"box": "4,4,30,30"} if sample.box else {})
        for name, sample in zip(names, samples, strict=True)
    ]
    shop = Shop(folder, items, *spaces)
    store = shop.store
    store.put_items(items)
    store.create_space(shop.old)
    store.put_embeddings(shop.old, shop.order, np.eye(1, shop.old.dim).repeat(number, 0))
    return shop


WORKER = """
import sys
import signal
from pathlib import Path
from scrubjay.backfill import Backfill, Limits, limits
from scrubjay.io.journal import Journal
from scrubjay.stores import Space, open_store
from tiny import IMAGES

class Halting(Journal):
    def write(self, event, **values):
        super().write(event, **values)
        if sum(line["event"] == "batch" for line in self.read()) == int(sys.argv[5]):
            signal.pause()  # until it is killed

if __name__ == "__main__":
    limits.BATCH = limits.FEATURE_BATCH = 16  # as in the tests
    folder, jobs = Path(sys.argv[1]), int(sys.argv[2])
    store = open_store(f"lancedb://{folder / 'gallery'}")
    space = Space("g1", int(sys.argv[3]), sys.argv[4], "g1")
    work = Backfill(store, space, folder / "generations" / "g1", IMAGES, Halting(folder / "backfill" / "g1.jsonl"))
    print(work.run([item.id for item in store.items()], Limits(jobs=jobs)).complete)
"""


def killed(shop: Shop, jobs: int, batches: int, delay: float = 0.0, halt: int = -1) -> bool:
    """Start a backfill in a process of its own and kill it a moment after so many more batches; whether it was.

    It waits for that by itself once its journal has `halt` batches.
    """
    script = shop.folder / "worker.py"
    script.write_text(WORKER)
    command = [sys.executable, str(script), str(shop.folder), str(jobs), str(shop.new.dim), shop.new.fingerprint]
    command.append(str(halt))
    before = count(shop)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
    ) as process:
        while process.poll() is None and count(shop) < before + batches:
            time.sleep(0.002)
        time.sleep(delay)
        process.kill()
        process.wait()
        return process.returncode == -signal.SIGKILL


def count(shop: Shop) -> int:
    return sum(line["event"] == "batch" for line in Journal(shop.journal).read())
