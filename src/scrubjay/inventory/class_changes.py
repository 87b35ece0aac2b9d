"""Renames classes, and merges one into another.

Both change the labels of items, of probe images and in the query log, and the names under which generations are read;
no vector and no weight changes. After a merge, existing generations answer as before, with hits of both classes under
one name; the gate and the match decision take them for one class. In closed form the statistics of both are those of
one class from then on: the next session or removal solves its metric with one mean where there were two. Methods that
train a network keep both rows of the head under one name; they learn nothing anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from scrubjay.errors import CatalogueError, ConfigError, NotFoundError
from scrubjay.generations.class_names import NameChange
from scrubjay.inventory.ingesting import after_writing_vectors
from scrubjay.search.query_log import QueryLog
from scrubjay.stores import Item
from scrubjay.workspace.removal_request import RemovalRequest
from scrubjay.workspace.workspace import Workspace

_BLOCK = 1000


@dataclass(frozen=True)
class ClassEditor:
    """Changes the names of classes; no other process writes to the catalogue at the same time.

    Attributes:
        workspace: the open catalogue.
        query_log: the log of its queries.
    """

    workspace: Workspace
    query_log: QueryLog

    def rename(self, old: str, new: str) -> int:
        """Rename a class; see `Inventory.rename_class`."""
        self._check(old, new)
        if new in self.names():
            raise CatalogueError(
                f"there is a class {new!r} already: choose another name, or merge {old!r} into it if both are the same."
            )
        return self._change(old, new)

    def merge(self, old: str, into: str) -> int:
        """Merge a class into another one; see `Inventory.merge_classes`."""
        self._check(old, into)
        if into not in self.names():
            raise NotFoundError(f"there is no class {into!r} to merge {old!r} into; rename {old!r} instead.")
        number = self._change(old, into)
        for generation in self.workspace.lineage.generations():
            self.workspace.match_model_path(generation).unlink(missing_ok=True)  # its thresholds leave out one of both
        after_writing_vectors(self.workspace, 0)
        return number

    def names(self) -> set[str]:
        """Names of all classes: learned and not forgotten, held out, or labels of items."""
        workspace = self.workspace
        generations, serving = workspace.lineage.generations(), workspace.serving.read().generation
        parents = {each.parent for each in generations} - {serving}
        names = {name for each in generations if each.name not in parents for name in each.classes}
        names |= {probe.label for probe in workspace.probe_set.probes(each.name for each in generations)}
        return names | {label for label in workspace.gallery.store.labels()[1] if label is not None}

    def finish(self) -> None:
        """Finish a change that was interrupted."""
        change = self.workspace.lineage.class_names.unfinished
        if change is not None:
            self._carry_out(change)

    def _check(self, old: str, new: str) -> None:
        """Finish an interrupted change, and make sure that this one is possible."""
        RemovalRequest.refuse_pending(self.workspace.folder)
        self.finish()
        Item("-", "-", "-", new)  # refuses what cannot be stored
        if not new.strip() or new != new.strip() or not new.isprintable():
            raise ConfigError(
                f"{new!r} cannot be the name of a class: take printable characters, without spaces around them."
            )
        if old == new:
            raise ConfigError(f"class {old!r} has this name already; give another one.")
        if old not in self.names():
            raise NotFoundError(f"there is no class {old!r}; see the classes of the catalogue.")

    def _change(self, old: str, new: str) -> int:
        lineage = self.workspace.lineage
        newest = lineage.newest
        change = NameChange(old, new, 0 if newest is None else newest.number + 1)
        lineage.class_names.begin(change)
        return self._carry_out(change)

    def _carry_out(self, change: NameChange) -> int:
        """Give the new name to everything that is no generation; returns the number of items that have it now."""
        store = self.workspace.gallery.store
        while items := store.page(_BLOCK, labels=[change.old]):
            store.put_items(replace(item, label=change.new) for item in items)
        self.workspace.probe_set.rename(change.old, change.new)
        self.query_log.rename(change.old, change.new)
        self.workspace.lineage.class_names.finish()
        return store.labels()[1].count(change.new)
