"""A catalogue: a folder that learns. `init → learn → add → search → learn again → gate → promote → backfill`.

    shop/catalogue.json        the options it was made with
    shop/serving.json          which generation answers queries, and how that came
    shop/generations/g0 …      what was learned
    shop/probe/                held-out images by which new generations are judged
    shop/gallery/              the store: items, and a table of vectors for each embedding space
    shop/session-g1.safetensors   learning that was interrupted, by the generation it was to become

A new generation answers nothing until it is promoted. Items are found by the vectors they have: a query of the
generation that answers is carried over bridges to the older vectors, and what is found there is merged by calibrated
scores. Embedding the older items again (`backfill`) is a matter of quality, never of validity.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from scrubjay.backfill import Backfilled, Limits
from scrubjay.backfill.plan import Plan, Refreshing
from scrubjay.config import read_json
from scrubjay.data.photos import labelled
from scrubjay.errors import CatalogueError, ConfigError
from scrubjay.gallery.gallery import Gallery
from scrubjay.gallery.ingest import Added, Adding
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.lineage import Generation, Lineage
from scrubjay.generations.serving import Serving, ServingFile
from scrubjay.io.atomic import write_json
from scrubjay.io.locking import locked
from scrubjay.learning.bridge_pairs import pairs
from scrubjay.learning.import_run import take_over
from scrubjay.learning.session import Learning
from scrubjay.maintenance.upkeep import Upkeep
from scrubjay.models.embedder import Embedder
from scrubjay.promotion.gate_report import Judging
from scrubjay.search.searcher import Answer, Answering
from scrubjay.stores import open_store
from scrubjay.types import Hit
from scrubjay.workspace.migrations import FORMAT, migrated
from scrubjay.workspace.options import CatalogueOptions

UPKEEP = 100
"""The store is kept up after a change of one in so many of its items."""


class Catalogue:
    """Opens the catalogue in a folder; one of an older version is brought up to date.

    Attributes:
        folder: its.
        options: what it was made with.
        lineage: what was learned.
        gallery: what is searched.
        serving: which generation answers.
        upkeep: what keeps it sound: a doctor, pruning, shadow answers, exports, news of unknown classes.

    Raises:
        CatalogueError: the folder is no catalogue.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "catalogue.json"
        if not os.path.isfile(path):
            raise CatalogueError(f"{folder}: no catalogue here; make one first: scrubjay init {folder}")
        try:
            values = read_json(path)
        except ConfigError as error:
            raise CatalogueError(f"{error} Restore {path}; the generations beside it are whole.") from None
        self.folder = folder
        self.gallery = Gallery(open_store(values.get("store") or _own_store(folder)))
        values = migrated(folder, values, self.gallery.store)
        values.pop("format")
        self.options = CatalogueOptions.parse(values, str(path))
        self.lineage = Lineage(folder / "generations")
        self.serving = ServingFile(folder)
        self._answering = Answering(folder, self.options, self.lineage, self.gallery, self.serving)
        self.upkeep = Upkeep(self._answering)

    @classmethod
    def init(cls, folder: Path, options: CatalogueOptions, run: Path | None = None) -> Catalogue:
        """Make a catalogue.

        Args:
            folder: a new or empty one.
            options: for all its generations.
            run: folder of a finished run of `scrubjay run`, whose generations the catalogue starts with; the last one
                answers.

        Raises:
            CatalogueError: the folder holds something already, or `run` is no run.
        """
        if os.path.exists(folder / "catalogue.json"):
            raise CatalogueError(f"{folder}: is a catalogue already; go on with: scrubjay learn {folder} PHOTOS")
        if os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
            raise CatalogueError(f"{folder}: is in use for something else; name a new or empty folder.")
        if options.store is not None:
            open_store(options.store)
        if run is None:
            Embedder(options.network)  # a backbone that cannot be had is refused before anything is written
        else:
            take_over(run / "generations", folder / "generations", options)
        newest = Lineage(folder / "generations").newest
        if newest is not None:
            ServingFile(folder).turn("promote", newest.name, 0)
        write_json(folder / "catalogue.json", {"format": FORMAT, **options.model_dump(mode="json")})
        return cls(folder)

    def learn(
        self,
        photos: Path,
        method_name: str | None = None,
        settings: Mapping[str, Any] | None = None,
        start: str | None = None,
    ) -> Generation:
        """Learn the classes of a folder or table, all of them new; no older image is needed.

        The new generation answers queries only when it is promoted; the first one does at once. Interrupted, the same
        call goes on where it stopped. A part of the images (the test split, or about one in seven) is held out: it is
        measured on, and some of it becomes part of the probe set.

        Args:
            photos: folder with a sub-folder a class, or a table (see the sources `folder` and `table`).
            method_name: file name of a method; none: that of the generation before, and in a new catalogue `moments`
                where a first part of the network is frozen, else `mmd`: each was the better one on the bench.
            settings: options of the method.
            start: generation to train further; none: the newest that was not rolled back from.

        Raises:
            UserError: the images are not as needed, a class is known already, or there is no such generation.
        """
        with locked(self.folder):
            parent = self._parent(start)
            gallery = None if parent is None else partial(pairs, self._answering, parent)
            learning = Learning(self.folder, self.options, self.lineage, parent, gallery)
            generation = learning.learn(photos, method_name, settings or {})
            now = self.serving.read()
            if now.generation is None:
                self.serving.turn("promote", generation.name, now.revision)
            return generation

    def add(self, photos: Iterable[Path]) -> Added:
        """Put images into the gallery: of folders, tables or single files. The same image twice is one item.

        They are embedded by the generation that answers queries. A single file has no label; it leaves that of the
        same image as it is. Cut short, the same call goes on.

        Raises:
            CatalogueError: nothing was learned yet.
            UserError: a path is missing or not as needed.
        """
        with locked(self.folder):
            generation = self._answering.generation()
            found = [each for path in photos for each in labelled(path)]
            embedders = [(space_of(generation), partial(self._answering.embed, generation))]
            added = Adding(self.gallery, embedders, self.options.images.on_error == "raise").add(found)
            self._settle(added.items)
            return added

    def remove(self, ids: Sequence[str]) -> int:
        """Take items out of the gallery; returns how many there were."""
        with locked(self.folder):
            return self.gallery.delete(ids)

    def search(
        self,
        image: Path,
        k: int = 10,
        labels: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Hit]:
        """The k items most like an image, best first; see `answer`."""
        return list(self.answer(image, k, labels, where).hits)

    def answer(
        self,
        image: Path,
        k: int = 10,
        labels: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> Answer:
        """The k items most like an image, and whether the best of them is likely to be a match at all.

        Args:
            image: the query.
            k: at least 1.
            labels: consider items with one of these labels only.
            where: consider items only whose metadata have all these values.

        Raises:
            ImageError: the query is no image.
            CatalogueError: nothing was learned or added yet.
            SpaceError: the options were changed so that its vectors would be of another space.
        """
        return self._answering.answer(image, k, labels, where)

    def gate(self, name: str) -> dict[str, Any]:
        """Measure what would change if a generation answered; the report that `scrubjay gate` shows.

        Raises:
            CatalogueError: there is no such generation, or it answers already.
        """
        return self._judging.gate(self.lineage.get(name))

    def promote(self, name: str, force: bool = False) -> dict[str, Any]:
        """Let a generation answer queries, if the gate lets it. Stored vectors stay, and stay searchable.

        Returns:
            The report of the gate.

        Raises:
            CatalogueError: the gate fails and it is not forced, or another process changed what is served meanwhile.
        """
        before = self.serving.read()
        report = self.gate(name)
        if not (report["passed"] or force):
            reasons = "; ".join(report["reasons"])
            raise CatalogueError(
                f"{name} was not promoted: {reasons}. See `scrubjay gate {self.folder} {name} --report gate.html`; "
                "--force promotes it all the same."
            )
        self._judging.calibrate(self.lineage.get(name))
        forced = not report["passed"]
        self.serving.turn("promote", name, before.revision, forced=forced, reasons=tuple(report["reasons"]))
        return report

    def rollback(self, name: str | None = None) -> Serving:
        """Let an earlier generation answer again; by default the one that did before. No vector is touched.

        Raises:
            CatalogueError: there is none, or it answers already.
        """
        return self.serving.rollback(name)

    def plan(self, order: str = "gain") -> Plan:
        """Which items a backfill would embed first, and what that would cost and bring; nothing is done.

        Raises:
            ConfigError: the order is unknown.
        """
        return Refreshing(self._answering).plan(order)

    def backfill(
        self, limits: Limits | None = None, order: str = "gain", until_recall: float | None = None
    ) -> Backfilled:
        """Embed older items with the generation that answers, the most useful first. Cut short, the same call goes on.

        Args:
            limits: when to stop before the end.
            order: see `plan`.
            until_recall: stop when the probe images have this recall@1 in the gallery.

        Raises:
            CatalogueError: another backfill is at work.
        """
        generation = self._answering.generation()
        limits = limits or Limits()
        if until_recall is not None:
            limits = replace(limits, until=self._judging.reached(generation, until_recall))
        done = Refreshing(self._answering).run(limits, order)
        self._settle(done.done)
        return done

    def interrupted(self) -> list[Path]:
        """Checkpoints of learning that was cut short."""
        return sorted(self.folder.glob("session-g*.safetensors"))

    def _settle(self, changed: int) -> None:
        """After vectors were written: upkeep of the store, and calibrations, so that a rollback takes no time."""
        if UPKEEP * changed >= self.gallery.count():
            self.gallery.store.maintain()
        serving = self.serving.read()
        for generation in self.lineage.generations():
            if generation.name in (serving.generation, serving.previous):
                self._judging.calibrate(generation)

    @property
    def _judging(self) -> Judging:
        return Judging(self._answering)

    def _parent(self, start: str | None) -> Generation | None:
        if start is not None:
            return self.lineage.get(start)
        left = self.serving.read().left
        kept = [each for each in self.lineage.generations() if left.isdisjoint(self.lineage.line(each.name))]
        return kept[-1] if kept else None


def _own_store(folder: Path) -> str:
    return f"lancedb://{(folder / 'gallery').absolute()}"
