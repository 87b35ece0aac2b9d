"""What keeps a catalogue sound, and lets one look ahead: doctor, pruning, shadow answers, exports, unknown classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scrubjay.errors import CatalogueError
from scrubjay.generations.onnx_export import Exported, export
from scrubjay.generations.serving import Serving, Shadow
from scrubjay.io.locking import locked
from scrubjay.learning.bridge_pairs import images, intact
from scrubjay.maintenance.doctor import Finding, examine
from scrubjay.maintenance.pruning import Prunable, prunable, prune
from scrubjay.maintenance.repair import mend
from scrubjay.promotion.gate_report import Judging
from scrubjay.search.novelty import Novelty
from scrubjay.search.searcher import Answering
from scrubjay.search.shadow import Compared


@dataclass(frozen=True)
class Upkeep:
    """Of one catalogue."""

    answering: Answering

    def gone(self) -> list[str]:
        """Ids of items whose image is not where it was: the file is gone, or holds another one."""
        return [item.id for item in self.answering.gallery.store.items() if not list(intact([item]))]

    def examine(self) -> list[Finding]:
        """What is wrong with the catalogue, and what mends it; nothing is changed."""
        return examine(self.answering)

    def mend(self, thorough: bool = False) -> list[str]:
        """Remove vectors that cannot be right and what killed work left behind; returns what was done.

        Args:
            thorough: embed every image that can be had again, to find vectors of other spaces.
        """
        with locked(self.answering.folder):
            return mend(self.answering, thorough)

    def prunable(self) -> Prunable:
        """Vectors and generations that nothing needs."""
        return prunable(self.answering)

    def prune(self, what: Prunable) -> None:
        """Drop them for good."""
        with locked(self.answering.folder):
            prune(self.answering, what)

    def export(self, name: str, path: Path | None = None) -> Exported:
        """Write a generation's embedder as ONNX, compared with torch on images of the gallery or the probe set.

        Raises:
            CatalogueError: there is no such generation.
            ConfigError: the extra `onnx` is not installed.
            DataError: no image can be had, or the vectors differ.
        """
        generation = self.answering.lineage.get(name)
        target = path or self.answering.folder / f"{name}.onnx"
        embedder = self.answering.embedder(generation)
        return export(embedder, generation, self.answering.options.images, images(self.answering, generation), target)

    def shadow(self, name: str | None, share: float = 0.1) -> Serving:
        """Let a generation answer a share of the live queries too, for comparison; None ends it.

        Raises:
            CatalogueError: there is no such generation, or it answers already.
        """
        now = self.answering.serving.read()
        if name is not None and self.answering.lineage.get(name).name == now.generation:
            raise CatalogueError(f"{self.answering.folder}: {name} answers already.")
        if name is not None:
            Judging(self.answering).calibrate(self.answering.lineage.get(name))
        return self.answering.serving.shadow(None if name is None else Shadow(name, share), now.revision)

    def shadowed(self) -> Compared:
        """Let the shadow generation answer what it has yet to, and compare both answers.

        Raises:
            CatalogueError: none is set.
        """
        return self.answering.shadowed()

    def novel(self) -> Novelty | None:
        """Whether live queries look like classes that were never learned; None where no probe image says."""
        return self.answering.novel()
