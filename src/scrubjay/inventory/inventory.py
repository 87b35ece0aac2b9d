"""What a catalogue holds, for those who look at it and put it in order: its items and its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scrubjay.errors import ConfigError, NotFoundError
from scrubjay.inventory.sent_images import AddedImages, SentImage, add_sent_images
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
            DataError: the label or metadata cannot be stored.
        """
        with locked(self.workspace.folder):
            item = self.item(name)
            if metadata is not None:
                kept = {key: value for key, value in item.metadata.items() if key == "box"}
                item = replace(item, metadata={**metadata, **kept})
            if label is not None:
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

    def remove_items(self, ids: Sequence[str]) -> int:
        """Remove items, and the files of those that were sent; returns how many items there were."""
        with locked(self.workspace.folder):
            return self.workspace.remove_items(ids)
