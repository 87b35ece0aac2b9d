"""What a catalogue holds, for those who look at it and put it in order: its items and its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scrubjay.errors import ConfigError, NotFoundError
from scrubjay.inventory.class_changes import ClassEditor
from scrubjay.inventory.classes import ClassSummary, class_summaries
from scrubjay.inventory.confusions import Confusions, class_confusions
from scrubjay.inventory.sent_images import BOX, AddedImages, SentImage, add_sent_images, refuse_box, refuse_empty
from scrubjay.io.locking import locked
from scrubjay.search.query_log import QueryLog
from scrubjay.stores import Item
from scrubjay.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Some items in the order of their ids.

    Attributes:
        items: the items.
        cursor: where the next page begins; None at the end.
    """

    items: tuple[Item, ...]
    cursor: str | None


@dataclass(frozen=True)
class Inventory:
    """The items and classes of an open catalogue. Nothing is kept in memory, so other processes' changes are seen.

    Attributes:
        workspace: the open catalogue.
        query_log: the log of its queries.
    """

    workspace: Workspace
    query_log: QueryLog

    def items(
        self,
        cursor: str | None = None,
        limit: int = 100,
        labels: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> ItemPage:
        """A page of items in the order of their ids. Items that are added or removed meanwhile disturb no other item.

        Args:
            cursor: that of the page before; None for the first page.
            limit: largest number of items, at least 1.
            labels: only items with one of these labels; None or empty for all.
            where: only items whose metadata have all these values.

        Raises:
            ConfigError: the limit is less than 1.
            DataError: a value of `where` has a type that metadata cannot have.
        """
        if limit < 1:
            raise ConfigError(f"limit = {limit}; ask for 1 item or more.")
        found = self.workspace.gallery.store.page(limit + 1, cursor, labels or None, where)
        more = len(found) > limit
        return ItemPage(tuple(found[:limit]), found[limit - 1].id if more else None)

    def item(self, name: str) -> Item:
        """The item with an id.

        Raises:
            NotFoundError: there is none.
        """
        found = next(self.workspace.gallery.store.items([name]), None)
        if found is None:
            raise NotFoundError(f"there is no item {name[:100]!r}; see its id in the gallery.")
        return found

    def change_item(self, name: str, label: str | None = None, metadata: Mapping[str, Any] | None = None) -> Item:
        """Change the label or the metadata of an item; what was learned of its image stays as it is.

        Args:
            name: id of the item.
            label: the new label; None leaves it.
            metadata: the new metadata, in place of all the old ones; None leaves them. The box of an item, which says
                which part of its image file it shows, stays in any case.

        Raises:
            NotFoundError: there is no such item.
            DataError: the label or metadata cannot be stored, or the metadata name another box.
        """
        with locked(self.workspace.folder):
            item = self.item(name)
            if metadata is not None:
                kept = {key: value for key, value in item.metadata.items() if key == BOX}
                refuse_box(metadata, kept.get(BOX))
                item = replace(item, metadata={**metadata, **kept})
            if label is not None:
                refuse_empty(label)
                item = replace(item, label=label)
            self.workspace.gallery.store.put_items([item])
            return item

    def add_images(
        self, images: Sequence[SentImage], label: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> AddedImages:
        """Add images that were sent; their files are stored in `images/` in the catalogue's folder.

        An image that is an item already keeps its file if that is intact; its label and metadata are updated. An image
        that cannot be decoded is left out and reported.

        Args:
            images: the images.
            label: label of all of them; None: none, or the one that an item has already.
            metadata: metadata that all of them get.

        Raises:
            CatalogueError: nothing was learned yet, or another process is writing.
            DataError: the label or metadata cannot be stored.
            ImageError: an image cannot be decoded and the option `images.on_error` is "raise".
        """
        with locked(self.workspace.folder):
            return add_sent_images(self.workspace, images, label, metadata or {})

    def classes(self) -> list[ClassSummary]:
        """All classes by name: the labels of items, and what the generation that answers has learned."""
        return class_summaries(self.workspace)

    def rename_class(self, old: str, new: str) -> int:
        """Rename a class: its items, its probe images, the query log, and under which name generations are read.

        More images that are learned under the new name belong to the class; the old name is free for another one. When
        interrupted, the same call finishes it, as does the next change of a class.

        Returns:
            Number of items of the class.

        Raises:
            NotFoundError: there is no such class.
            CatalogueError: there is a class of the new name, or another process is writing.
            ConfigError: the new name is empty, or is the old one.
        """
        with locked(self.workspace.folder):
            return ClassEditor(self.workspace, self.query_log).rename(old, new)

    def merge_classes(self, old: str, into: str) -> int:
        """Merge a class into another one, because both are the same; see `scrubjay.inventory.class_changes`.

        This cannot be undone: afterwards nothing tells the images of the two classes apart.

        Returns:
            Number of items of the class that is left.

        Raises:
            NotFoundError: one of the classes does not exist.
            CatalogueError: another process is writing.
            ConfigError: both names are the same.
        """
        with locked(self.workspace.folder):
            return ClassEditor(self.workspace, self.query_log).merge(old, into)

    def finish_class_change(self) -> None:
        """Finish a renaming or merging that was interrupted. The caller holds the lock of the catalogue."""
        ClassEditor(self.workspace, self.query_log).finish()

    def confusions(self, limit: int = 20) -> Confusions:
        """The pairs of classes that are most often found for each other, by vectors of the generation that answers.

        Raises:
            CatalogueError: nothing was learned yet.
        """
        return class_confusions(self.workspace, limit)

    def remove_items(self, ids: Sequence[str]) -> int:
        """Remove items, and the files of those that were sent; returns how many items there were."""
        with locked(self.workspace.folder):
            return self.workspace.remove_items(ids)
