"""Forgets classes and single images: what was learned from them is subtracted, and what is stored of them deleted.

The steps, each of which may be interrupted and repeated: the request is written to disk; the images are subtracted from
the statistics of every session, with their stored features; items, probe images, logged queries and stored embeddings
are deleted; a generation is solved again from the statistics that are left, and promoted; the request is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from scrubjay.errors import CatalogueError
from scrubjay.learning.given_features import given_features
from scrubjay.learning.successor import add_successor
from scrubjay.maintenance.forgotten import Forgotten
from scrubjay.maintenance.removal_plan import RemovalPlanner
from scrubjay.maintenance.sent_files import sent_files
from scrubjay.promotion.calibrate import calibrate
from scrubjay.search.query_log import QueryLog
from scrubjay.workspace.removal_request import RemovalRequest
from scrubjay.workspace.workspace import Workspace


@dataclass(frozen=True)
class Forgetter:
    """Forgets classes and images of an open catalogue; no other process writes to it at the same time.

    Attributes:
        workspace: the open catalogue.
        query_log: the log of its queries.
    """

    workspace: Workspace
    query_log: QueryLog

    def forget(self, classes: Sequence[str], images: Sequence[str], photos: Path | None = None) -> Forgotten:
        """Forget classes and single images; see `Upkeep.forget`."""
        self.workspace.lineage.class_names.refuse_unfinished()
        planner = RemovalPlanner(self.workspace, self.query_log)
        request = RemovalRequest.pending(self.workspace.folder)
        if request is None:
            asked = planner.asked(classes, images)
            features = self._given(asked, photos)
            request = planner.planned(asked, features)
            request.save(self.workspace.folder)
        else:
            self._check_same(request, classes)
            features = self._given(request, photos)
        self._subtract(request, features)
        self._delete(request)
        self._replace(request)
        RemovalRequest.finish(self.workspace.folder)
        return Forgotten.of(request, self.workspace)

    def _check_same(self, request: RemovalRequest, classes: Sequence[str]) -> None:
        folder = self.workspace.folder
        if not set(classes) <= set(request.classes):
            raise CatalogueError(
                f"{folder}: another removal was interrupted; finish it first: {request.command(folder)}"
            )

    def _given(self, request: RemovalRequest, photos: Path | None) -> Mapping[str, Tensor]:
        """Features of given images that are to be removed and whose features are not stored, by content hash."""
        if photos is None:
            return {}
        workspace, crops = self.workspace, dict[str, int]()
        for path in workspace.lineage.statistics.paths():
            session = workspace.lineage.statistics.get(path.stem)
            images = session.having(request.classes, request.images)
            crops |= dict.fromkeys(images.hashes if images.features is None else (), session.crops)
        return given_features(workspace.encoder(workspace.serving_generation()), photos, crops)

    def _subtract(self, request: RemovalRequest, features: Mapping[str, Tensor]) -> None:
        """Remove the images from the statistics of every session. Each file is replaced in one step."""
        statistics = self.workspace.lineage.statistics
        for path in statistics.paths():
            session = statistics.get(path.stem)
            left = session.without(request.classes, request.images, features)
            if left is not session:
                statistics.put(path.stem, left)

    def _delete(self, request: RemovalRequest) -> None:
        """Delete what is stored of the images."""
        workspace = self.workspace
        workspace.remove_items(
            item.id for item in workspace.gallery.store.items() if request.concerns(item.label, item.id)
        )
        workspace.images.remove(request.contents)  # those of an interrupted removal, whose items are gone already
        workspace.gallery.store.maintain()
        workspace.probe_set.remove(request.classes, request.images)
        self.query_log.remove(request.contents, request.classes)
        for files in sent_files(workspace.folder, request.classes, request.contents).values():
            for path in files:
                path.unlink(missing_ok=True)
        for generation in workspace.lineage.generations():
            workspace.match_model_path(generation).unlink(missing_ok=True)  # it holds the means of all classes
            stored = workspace.lineage.embeddings(generation)
            left = stored.without(generation.classes, request.classes, request.paths)
            if len(left) < len(stored):
                workspace.lineage.replace_embeddings(generation, left)

    def _replace(self, request: RemovalRequest) -> None:
        """Make the generations that replace those that learned from the images, and let them answer."""
        workspace = self.workspace
        known = workspace.lineage.by_name()
        for old, new in request.successors.items():
            if new not in known:
                add_successor(workspace, known[old])
        serving = workspace.serving.read()
        successor = request.successors.get(serving.generation or "")
        if successor is not None:
            calibrate(workspace, workspace.lineage.get(successor))
            reason = f"it replaces {serving.generation}, which learned from images that were to be forgotten"
            workspace.serving.change("promote", successor, serving.revision, forced=True, reasons=(reason,))
