"""Adds images that were sent to the catalogue: their files are stored in its folder, then they become items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scrubjay.data.photos import bytes_hash
from scrubjay.errors import DataError
from scrubjay.gallery.items import image_problem, sample_of
from scrubjay.inventory.ingesting import after_adding, ingest
from scrubjay.stores import Item
from scrubjay.types import Sample
from scrubjay.workspace.workspace import Workspace

BOX = "box"
"""Metadata of an item that say which part of its image file it shows."""


@dataclass(frozen=True, slots=True)
class SentImage:
    """An image that was sent.

    Attributes:
        name: what the sender calls it; used in reports only.
        content: bytes of the image file.
    """

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class AddedImages:
    """The result of adding images that were sent.

    Attributes:
        items: the items of these images, those that existed before included, in the order of the images.
        known: number of images that were items before.
        failures: name of each image that was not taken, and the reason.
    """

    items: tuple[Item, ...]
    known: int
    failures: tuple[tuple[str, str], ...]


def add_sent_images(
    workspace: Workspace, images: Sequence[SentImage], label: str | None, metadata: Mapping[str, Any]
) -> AddedImages:
    """Add images; see `Inventory.add_images`. No other process writes to the catalogue at the same time."""
    store = workspace.gallery.store
    names = {bytes_hash(image.content): image.name for image in reversed(images)}
    before = {item.id: item for item in store.items(list(names))}
    _check(names, label, metadata)
    adding = ingest(workspace)
    samples, failures = _samples(workspace, images, before)
    try:
        added = adding.add([(sample, label) for sample in samples.values()])
    except BaseException:
        workspace.images.remove(samples.keys() - {item.id for item in store.items(list(samples))})
        raise
    of_path = {str(sample.path): name for name, sample in samples.items()}
    refused = {of_path[path]: reason for path, reason in added.failures}
    workspace.images.remove(name for name in refused if name not in before)
    items = {item.id: item for item in store.items([name for name in samples if name not in refused])}
    if metadata:
        items = {name: replace(item, metadata={**item.metadata, **metadata}) for name, item in items.items()}
        store.put_items(items.values())
    after_adding(workspace, len(items))
    failures += [(names[name], reason) for name, reason in refused.items()]
    return AddedImages(tuple(items.values()), len(items.keys() & before.keys()), tuple(failures))


def refuse_box(metadata: Mapping[str, Any], own: str | None) -> None:
    """Make sure that metadata from a user do not change which part of its image file an item shows.

    Raises:
        DataError: they name another box than the item's own.
    """
    if metadata.get(BOX, own) != own:
        raise DataError(f"metadata {BOX!r} say which part of its file an item shows; leave them out.")


def refuse_empty(label: str) -> None:
    """Make sure that a label from a user names a class.

    Raises:
        DataError: it is empty.
    """
    if not label.strip():
        raise DataError(f"the label is {label!r}; give the name of a class.")


def _check(names: Mapping[str, str], label: str | None, metadata: Mapping[str, Any]) -> None:
    """Refuse labels and metadata that cannot be stored, before anything is."""
    refuse_box(metadata, None)
    if label is not None:
        refuse_empty(label)
    for name in names:
        Item(name, name, name, label, metadata)


def _samples(
    workspace: Workspace, images: Sequence[SentImage], before: Mapping[str, Item]
) -> tuple[dict[str, Sample], list[tuple[str, str]]]:
    """By id the file of each image: that of its item if it is intact, else a new one; and what is no image."""
    samples: dict[str, Sample] = {}
    failures = []
    for image in images:
        name = bytes_hash(image.content)
        known = before.get(name)
        if known is not None and image_problem(known) is None:
            samples[name] = sample_of(known)
            continue
        try:
            samples[name] = Sample(workspace.images.put(image.content), 0)
        except DataError as error:
            failures.append((image.name, str(error).removeprefix("the image: ")))
    return samples, failures
