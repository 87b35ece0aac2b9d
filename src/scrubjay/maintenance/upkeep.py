"""Maintenance of an open catalogue as one object: doctor, repair, pruning, export, shadow answers, unknown classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from scrubjay.errors import CatalogueError
from scrubjay.gallery.items import intact, readable_items, sample_of
from scrubjay.generations.onnx_export import Exported, export
from scrubjay.generations.serving import Serving, Shadow
from scrubjay.io.locking import locked
from scrubjay.maintenance.doctor import Finding, examine
from scrubjay.maintenance.forgetting import Forgetter
from scrubjay.maintenance.forgotten import Forgotten
from scrubjay.maintenance.merging import Merged, merge
from scrubjay.maintenance.pruning import Prunable, prunable, prune
from scrubjay.maintenance.repair import repair
from scrubjay.promotion.calibrate import calibrate
from scrubjay.search.novelty import Novelty
from scrubjay.search.searcher import Searcher
from scrubjay.search.shadow import Compared
from scrubjay.workspace.workspace import Workspace

COMPARED = 64
"""Number of images on which an export is compared with the network."""


@dataclass(frozen=True)
class Upkeep:
    """Maintains a catalogue.

    Attributes:
        workspace: the open catalogue.
        searcher: answers its queries.
    """

    workspace: Workspace
    searcher: Searcher

    def gone(self) -> list[str]:
        """Ids of the items whose image file is missing or has changed."""
        items = list(self.workspace.gallery.store.items())
        readable = {item.id for item in intact(items)}
        return [item.id for item in items if item.id not in readable]

    def examine(self) -> list[Finding]:
        """What is wrong with the catalogue, each finding with the command that repairs it. Nothing is changed."""
        return examine(self.workspace)

    def repair(self, thorough: bool = False) -> list[str]:
        """Remove invalid vectors and the temporary files of interrupted work.

        Args:
            thorough: embed every readable image again, to find vectors of other spaces.

        Returns:
            What was done, one line for each action.
        """
        with locked(self.workspace.folder):
            return repair(self.workspace, thorough)

    def prunable(self) -> Prunable:
        """The vectors and generations that nothing needs any more."""
        return prunable(self.workspace)

    def prune(self, what: Prunable) -> None:
        """Delete vectors and generations for good, except those that are needed by now."""
        with locked(self.workspace.folder):
            prune(self.workspace, what)

    def forget(self, classes: Sequence[str] = (), images: Sequence[str] = (), photos: Path | None = None) -> Forgotten:
        """Forget classes and single images: their items, and all that was learned from them in closed form.

        What was learned is then as if they had never been seen; the generation that answers is replaced by one that was
        solved without them. When interrupted, the same call finishes it.

        Args:
            classes: names of classes.
            images: single images: files, or ids of items.
            photos: folder or table with the images, where their features are not stored
                (`keep_training_features = false`).

        Raises:
            DataError: a class or image was never there, its features are missing, or fewer than two classes are left.
            CatalogueError: a class was learned by training a network, or another removal was interrupted.
        """
        with locked(self.workspace.folder):
            return Forgetter(self.workspace, self.searcher.query_log).forget(classes, images, photos)

    def merge(self, other: Workspace, out: Path) -> Merged:
        """Make a catalogue of this one and another one over the same trunk; both stay as they are.

        Items that only the other one holds are found after a backfill of the new catalogue.

        Args:
            other: the other catalogue.
            out: a new or empty folder.

        Raises:
            UserError: the trunks differ, or a catalogue has not learned in closed form.
        """
        return merge(self.workspace, other, out)

    def export(self, name: str, path: Path | None = None) -> Exported:
        """Write the embedder of a generation as an ONNX file, compared with torch on images of the catalogue.

        Args:
            name: name of the generation.
            path: path of the file; by default `NAME.onnx` in the catalogue's folder.

        Raises:
            CatalogueError: there is no such generation.
            ConfigError: the extra `onnx` is not installed.
            DataError: no image can be read, or the vectors differ.
        """
        workspace = self.workspace
        generation = workspace.lineage.get(name)
        probes = workspace.probe_set.probes(workspace.lineage.line(name))
        copies = (probe.sample for probe in probes if probe.sample is not None)
        items = (sample_of(item) for item in readable_items(workspace.gallery.store, COMPARED))
        return export(
            workspace.encoder(generation).embedder,
            generation,
            workspace.options.images,
            list(islice(chain(copies, items), COMPARED)),
            path or workspace.folder / f"{name}.onnx",
        )

    def shadow(self, name: str | None, share: float = 0.1) -> Serving:
        """Let a second generation answer a share of the live queries as well, for comparison.

        Args:
            name: name of the generation; None ends it.
            share: share of the queries, 0 to 1.

        Raises:
            CatalogueError: there is no such generation, or it answers already.
        """
        serving = self.workspace.serving.read()
        if name is None:
            return self.workspace.serving.shadow(None, serving.revision)
        generation = self.workspace.lineage.get(name)
        if name == serving.generation:
            raise CatalogueError(f"{self.workspace.folder}: {name} answers already.")
        calibrate(self.workspace, generation)
        return self.workspace.serving.shadow(Shadow(name, share), serving.revision)

    def shadowed(self) -> Compared:
        """Let the shadow generation answer its pending queries, and compare its answers with those that were given.

        Raises:
            CatalogueError: no shadow generation is set.
        """
        return self.searcher.compare_shadow()

    def novel(self) -> Novelty | None:
        """Whether live queries look like classes that were never learned; None without a match threshold."""
        return self.searcher.novelty()
