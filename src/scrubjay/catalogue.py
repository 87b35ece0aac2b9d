"""A catalogue: a folder that learns. `init → learn → add → search → learn again → gate → promote → backfill`.

    shop/catalogue.json        the options it was made with
    shop/serving.json          which generation answers queries, and the history of changes
    shop/generations/g0 …      the trained generations
    shop/probe/                held-out images by which new generations are judged
    shop/calibration/          what the scores of each generation's queries mean
    shop/images/               images of items that were sent to the catalogue
    shop/gallery/              the store: items, and a table of vectors for each embedding space
    shop/session-g1.safetensors   interrupted learning, by the name of the generation that it was to make

A new generation answers no query until it is promoted. Items are found by the vectors they have: a query of the
generation that answers is carried over bridges to older vectors, and the results are merged by calibrated scores.
Re-embedding older items (`backfill`) improves quality; the results are valid without it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scrubjay.backfill import Backfilled, Limits
from scrubjay.backfill.plan import BackfillPlanner, Plan
from scrubjay.data.photos import labelled
from scrubjay.errors import CatalogueError, GateFailedError, ScrubjayError
from scrubjay.gallery.gallery import Gallery
from scrubjay.gallery.ingest import Added
from scrubjay.gate.decision import GateOptions
from scrubjay.gate.report import GateReport
from scrubjay.generations.generation import Generation
from scrubjay.generations.lineage import Lineage
from scrubjay.generations.serving import Serving, ServingFile
from scrubjay.inventory.ingesting import after_adding, after_writing_vectors, ingest
from scrubjay.inventory.inventory import Inventory
from scrubjay.io.atomic import write_json
from scrubjay.io.locking import locked
from scrubjay.learning.import_run import import_run
from scrubjay.learning.session import SessionLearner, interrupted_sessions
from scrubjay.maintenance.upkeep import Upkeep
from scrubjay.models.embedder import Embedder
from scrubjay.models.explanation import ExplainedHit
from scrubjay.promotion.calibrate import calibrate
from scrubjay.promotion.gallery_view import gallery_slices
from scrubjay.promotion.gate_report import gate_report
from scrubjay.search.explaining import explain_hits, explain_item
from scrubjay.search.query_image import QueryImage
from scrubjay.search.request import Answer, QueryRequest
from scrubjay.search.searcher import Result, Searcher
from scrubjay.stores import open_store
from scrubjay.types import Hit
from scrubjay.workers import Workers
from scrubjay.workspace.migrations import FORMAT
from scrubjay.workspace.options import CatalogueOptions
from scrubjay.workspace.workspace import Workspace


class Catalogue:
    """Opens the catalogue in a folder; a catalogue of an older format is migrated.

    Attributes:
        folder: folder of the catalogue.
        workspace: everything in the folder, opened once.
        upkeep: doctor, repair, pruning, export, shadow answers, and news of unknown classes.
        inventory: items and classes: look at them, change them, add images that were sent.

    Raises:
        CatalogueError: the folder is not a catalogue.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = Workspace(folder)
        self._searcher = Searcher(self.workspace)
        self._planner = BackfillPlanner(self.workspace, self._searcher.query_log)
        self.upkeep = Upkeep(self.workspace, self._searcher)
        self.inventory = Inventory(self.workspace, self._searcher.query_log)

    @property
    def options(self) -> CatalogueOptions:
        """The options that the catalogue was made with."""
        return self.workspace.options

    @property
    def lineage(self) -> Lineage:
        """The generations."""
        return self.workspace.lineage

    @property
    def gallery(self) -> Gallery:
        """The items that are searched."""
        return self.workspace.gallery

    @property
    def serving(self) -> ServingFile:
        """The file that says which generation answers queries."""
        return self.workspace.serving

    @classmethod
    def init(cls, folder: Path, options: CatalogueOptions, run: Path | None = None) -> Catalogue:
        """Make a catalogue.

        Args:
            folder: a new or empty folder.
            options: options of all its generations.
            run: folder of a finished run of `scrubjay run`, whose generations the catalogue starts with; the last one
                answers queries.

        Raises:
            CatalogueError: the folder is not empty, or `run` is not a finished run.
            ConfigError: the backbone or its weights are not as the options say.
            HubError: a backbone of the Hub is not there, or cannot be reached.
        """
        if os.path.exists(folder / "catalogue.json"):
            raise CatalogueError(f"{folder}: is a catalogue already; go on with: scrubjay learn {folder} PHOTOS")
        if os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
            raise CatalogueError(f"{folder}: is in use for something else; name a new or empty folder.")
        if options.store is not None:
            open_store(options.store)
        if run is None:
            network = Embedder(options.network).options  # refuses an unavailable backbone before anything is written
        else:
            network = import_run(run / "generations", folder / "generations", options)
        newest = Lineage(folder / "generations").newest
        if newest is not None:
            ServingFile(folder).change("promote", newest.name, 0)
        options = options.model_copy(update={"network": network})
        write_json(folder / "catalogue.json", {"format": FORMAT, **options.model_dump(mode="json")})
        return cls(folder)

    def learn(
        self,
        photos: Path,
        method_name: str | None = None,
        settings: Mapping[str, Any] | None = None,
        start: str | None = None,
        processes: int = 1,
        ray: str | None = None,
    ) -> Generation:
        """Learn the classes of a folder or table. No image of an older class is needed for training.

        In closed form (method `slda`) the folder may also hold more images of known classes; images that were learned
        or held out before are left out and counted. All other methods refuse known classes.

        The new generation answers queries only after it is promoted; the first one does at once. When interrupted, the
        same call resumes. A part of the images (the test split, or about one in seven) is held out: the generation is
        measured on it, and up to `probe.images` of each class are copied into the probe set, unless
        `probe.keep = "embeddings"` or `probe.images = 0`. No other image is kept.

        Args:
            photos: folder with a sub-folder for each class, or a table (see the sources `folder` and `table`).
            method_name: file name of a method; None: that of the generation before, and in a new catalogue `slda`, or
                where the projection sees the last feature map only, `moments` with a frozen first part and else `mmd`.
            settings: options of the method.
            start: name of the generation to train further; None: the newest that was not rolled back from.
            processes: number of processes that compute features, for methods that learn in closed form.
            ray: "local", or the address of a Ray cluster that computes them; `processes` is then the number of its
                actors.

        Raises:
            UserError: the images are not as needed, a class is known already and the method refuses that, or there is
                no such generation.
        """
        with locked(self.folder):
            self.inventory.finish_class_change()
            generation = SessionLearner(self.workspace, self._parent(start), Workers(processes, ray)).learn(
                photos, method_name, settings or {}
            )
            serving = self.serving.read()
            if serving.generation is None:
                self.serving.change("promote", generation.name, serving.revision)
            return generation

    def add(self, photos: Iterable[Path]) -> Added:
        """Add images to the gallery, from folders, tables or single files. The same image twice is one item.

        They are embedded by the generation that answers queries. A single file has no label and does not change the
        label of an item with the same image. When interrupted, the same call resumes.

        Raises:
            CatalogueError: nothing was learned yet.
            UserError: a path is missing or not as needed.
        """
        with locked(self.folder):
            self.inventory.finish_class_change()
            adding = ingest(self.workspace)
            added = adding.add([entry for path in photos for entry in labelled(path)])
            after_adding(self.workspace, added.items)
            return added

    def remove(self, ids: Sequence[str]) -> int:
        """Remove items from the gallery; see `Inventory.remove_items`.

        Returns:
            How many of them there were.
        """
        return self.inventory.remove_items(ids)

    def search(
        self,
        image: Path,
        k: int = 10,
        labels: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Hit]:
        """The k items most similar to an image, best first; see `answer`."""
        return list(self.answer(image, k, labels, where).hits)

    def answer(
        self,
        image: Path,
        k: int = 10,
        labels: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> Answer:
        """The k items most similar to an image, and whether the best of them are likely to match; see `Answer.matched`.

        Args:
            image: the query.
            k: at least 1.
            labels: consider only items with one of these labels.
            where: consider only items whose metadata have all these values.

        Raises:
            ImageError: the query is not a readable image.
            CatalogueError: nothing was learned or added yet.
            SpaceError: the options were changed so that its vectors would belong to another space.
        """
        query = QueryImage.read(image, self.options.images)
        (answer,) = self.answer_many([query], k, labels, where)
        return answer

    def answer_many(
        self,
        images: Sequence[QueryImage],
        k: int = 10,
        labels: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        combine: bool = False,
        generation: str | None = None,
        log: bool = True,
    ) -> list[Answer]:
        """Answer several queries with one forward pass and one search of the store; see `answer` and `QueryRequest`.

        Returns:
            One answer for each image, or with `combine` a single one.

        Raises:
            CatalogueError: nothing was learned or added yet, or there is no such generation.
            ConfigError: there is no image, or k is less than 1.
            SpaceError: the options were changed so that its vectors would belong to another space.
        """
        request = QueryRequest(tuple(images), k, tuple(labels or ()), where or {}, combine, generation, log)
        (result,) = self.answer_requests([request])
        if isinstance(result, ScrubjayError):
            raise result
        return result

    def answer_requests(self, requests: Sequence[QueryRequest]) -> list[Result]:
        """Answer requests with different settings together; see `Searcher.answer`. Errors are returned, not raised."""
        return self._searcher.answer(requests)

    def explain(self, image: Path, answer: Answer) -> list[ExplainedHit]:
        """Which parts of an image and of each of its hits make them similar.

        Args:
            image: the query.
            answer: what `answer` found for it.

        Returns:
            The hits of the answer in order, those that cannot be explained with the reason.

        Raises:
            ImageError: the query is not a readable image.
            ConfigError: the pooling of the network cannot be explained.
        """
        return explain_hits(self.workspace, image, answer)

    def explain_item(self, image: QueryImage, name: str) -> ExplainedHit:
        """Which parts of an image and of one item of the gallery make them similar for the generation that answers.

        Args:
            image: the query.
            name: id of the item.

        Raises:
            DataError: there is no such item.
            ConfigError: the pooling of the network cannot be explained.
        """
        return explain_item(self.workspace, image, name)

    def gate(self, name: str, options: GateOptions | None = None) -> GateReport:
        """Measure what would change if a generation answered queries.

        Args:
            name: name of the generation.
            options: the limits; None: those of the catalogue.

        Raises:
            CatalogueError: there is no such generation, or it answers already.
        """
        candidate = self.lineage.get(name)
        slices = gallery_slices(self.workspace, candidate)
        return gate_report(self.workspace, candidate, slices, options or self.options.gate)

    def promote(self, name: str, force: bool = False, expected: int | None = None) -> GateReport:
        """Let a generation answer queries, if its gate passes. Stored vectors stay, and stay searchable.

        Args:
            name: name of the generation.
            force: promote it even if its gate fails.
            expected: revision of the serving file on which the decision was based; None: the one that is read now.

        Returns:
            The report of the gate.

        Raises:
            GateFailedError: the gate fails and `force` is not set.
            ServingChangedError: another process changed the serving generation.
        """
        serving = self.serving.read() if expected is None else self.serving.expect(expected)
        candidate = self.lineage.get(name)
        slices = gallery_slices(self.workspace, candidate)
        report = gate_report(self.workspace, candidate, slices, self.options.gate)
        if not (report.passed or force):
            message = (
                f"{name} was not promoted: {'; '.join(report.reasons)}. See `scrubjay gate {self.folder} {name} "
                "--report gate.html`; --force promotes it all the same."
            )
            raise GateFailedError(message, report.reasons)
        calibrate(self.workspace, candidate, slices)
        self.serving.change("promote", name, serving.revision, forced=not report.passed, reasons=report.reasons)
        return report

    def rollback(self, name: str | None = None, expected: int | None = None) -> Serving:
        """Let an earlier generation answer again; by default the one that answered before. No vector is changed.

        Args:
            name: name of the generation.
            expected: see `promote`.

        Raises:
            CatalogueError: there is none, or it answers already.
            ServingChangedError: another process changed the serving generation.
        """
        return self.serving.rollback(name, expected)

    def plan(self, order: str = "gain") -> Plan:
        """Which items a backfill would re-embed first, and what that costs and gains; nothing is changed.

        Raises:
            ConfigError: the order is unknown.
        """
        return self._planner.plan(order)

    def backfill(
        self, limits: Limits | None = None, order: str = "gain", until_recall: float | None = None
    ) -> Backfilled:
        """Re-embed older items with the generation that answers, the most useful first. The same call resumes.

        Args:
            limits: when to stop early.
            order: see `plan`.
            until_recall: stop when the probe images reach this recall@1 in the gallery.

        Raises:
            CatalogueError: another backfill is running, or there are no probe images to measure the recall.
        """
        result = self._planner.run(limits or Limits(), order, until_recall)
        after_writing_vectors(self.workspace, result.done)
        return result

    def interrupted(self) -> list[Path]:
        """Checkpoints of interrupted learning."""
        return interrupted_sessions(self.folder)

    def _parent(self, start: str | None) -> Generation | None:
        if start is not None:
            return self.lineage.get(start)
        abandoned = self.serving.read().rolled_back
        kept = [each for each in self.lineage.generations() if abandoned.isdisjoint(self.lineage.line(each.name))]
        return kept[-1] if kept else None
