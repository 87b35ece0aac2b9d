"""Checks images before anything is learned from them: what is broken, is there twice, or may be labelled wrongly."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scrubjay.checks.near_duplicates import Thumbnails, near_duplicates, near_items
from scrubjay.checks.wrong_labels import suspected
from scrubjay.data.images import ImageOptions
from scrubjay.data.loading import Cache, ImageLoader, readable
from scrubjay.data.photos import content_hash, labelled
from scrubjay.errors import DataError
from scrubjay.gallery.items import sample_of
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.generation import Generation
from scrubjay.models.embedder import Embedder, NetworkOptions
from scrubjay.models.embedding import Encoder
from scrubjay.stores import Item
from scrubjay.types import Sample
from scrubjay.workspace.workspace import Workspace

FEW_IMAGES = 5
"""A class with fewer images is reported: about one image in seven is held out to judge what was learned, and with fewer
than this most classes have none."""
MOST_ITEMS = 50_000
"""Number of items of a larger gallery that are compared. Ids are hashes, so the first ones are a random sample."""

Kind = Literal["unreadable", "duplicate", "near_duplicate", "known", "tiny_class", "suspected_label"]


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """One thing that a check found.

    Attributes:
        kind: what it is.
        message: in words.
        images: names of the images that it concerns, relative to the folder.
        items: ids of items of the gallery that it concerns.
    """

    kind: Kind
    message: str
    images: tuple[str, ...]
    items: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FolderCheck:
    """What is in a folder of images.

    Attributes:
        images: number of images.
        classes: number of readable images by class.
        new_classes: classes that the generation that answers has not learned.
        known_classes: classes that it has learned.
        findings: what was found, kind after kind.
    """

    images: int
    classes: Mapping[str, int]
    new_classes: tuple[str, ...]
    known_classes: tuple[str, ...]
    findings: tuple[CheckFinding, ...]


def check_photos(
    photos: Path, workspace: Workspace | None = None, refused: Mapping[Path, str] | None = None
) -> FolderCheck:
    """Check the images of a folder or table. Nothing is changed.

    Args:
        photos: folder with a sub-folder for each class, or a table.
        workspace: the catalogue that is to learn them; without one, or before it has learned anything, images are
            compared by the untrained network.
        refused: absolute paths of images that were found to be unreadable, and why; they are not decoded again.

    Raises:
        DataError: the path does not exist, or the layout of the folder or table is not the expected one.
    """
    entries = [(sample, label or "") for sample, label in labelled(photos)]
    return _Check(photos, entries, workspace, refused or {}).result()


class _Check:
    """The images of one folder, with all that is known of them."""

    def __init__(
        self,
        photos: Path,
        entries: Sequence[tuple[Sample, str]],
        workspace: Workspace | None,
        refused: Mapping[Path, str],
    ) -> None:
        self._root, self._workspace, self._generation = photos.absolute(), workspace, _serving(workspace)
        self._label = dict(entries)
        self._names = {sample: self._name(sample) for sample in self._label}
        images = ImageOptions() if workspace is None else workspace.options.images
        options = images.model_copy(update={"on_error": "skip"})
        tried = [sample for sample in self._label if sample.path not in refused]
        loader = ImageLoader(tried, options, train=False)
        good, failures = readable(loader)
        self._unreadable = {**{str(path): reason for path, reason in refused.items()}, **dict(failures)}
        self._by_content: dict[str, list[Sample]] = {}
        for sample in good:
            self._by_content.setdefault(content_hash(sample), []).append(sample)
        self._counts = Counter(self._label[sample] for sample in good)
        self._samples = [same[0] for same in self._by_content.values()]
        self._labels = [self._label[sample] for sample in self._samples]
        self._vectors = self._embedded(options, loader.cache)
        self._thumbnails = Thumbnails()

    def result(self) -> FolderCheck:
        known = set() if self._generation is None else set(self._generation.classes)
        classes = dict.fromkeys(sorted(set(self._label.values())), 0) | self._counts
        gallery, vectors = self._gallery()
        findings = [
            *self._broken(),
            *self._duplicates(),
            *self._near_duplicates(gallery, vectors),
            *self._known(),
            *self._tiny(classes, known),
            *self._suspected(gallery, vectors),
        ]
        return FolderCheck(
            len(self._label),
            classes,
            tuple(name for name in classes if name not in known),
            tuple(name for name in classes if name in known),
            tuple(findings),
        )

    def _name(self, sample: Sample) -> str:
        path = sample.path.absolute()
        return os.fspath(path.relative_to(self._root)) if path.is_relative_to(self._root) else str(path)

    def _embedded(self, options: ImageOptions, cache: Cache) -> NDArray[np.float32]:
        """Unit vectors of the distinct readable images: by the generation that answers, or the untrained network."""
        if not self._samples:
            return np.empty((0, 1), np.float32)
        if self._workspace is not None and self._generation is not None:
            return self._workspace.encoder(self._generation).embed(self._samples, cache).vectors
        network = NetworkOptions() if self._workspace is None else self._workspace.options.network
        return Encoder(Embedder(network).eval(), options).embed_backbone(self._samples, cache).vectors

    def _gallery(self) -> tuple[dict[str, Item], NDArray[np.float32]]:
        """Items with a vector of the generation that answers, but those of the same images, and their vectors."""
        nothing: dict[str, Item] = {}
        if self._workspace is None or self._generation is None or not self._samples:
            return nothing, np.empty((0, self._vectors.shape[1]), np.float32)
        store, space = self._workspace.gallery.store, space_of(self._generation)
        if space not in store.spaces():
            return nothing, np.empty((0, self._vectors.shape[1]), np.float32)
        ids, vectors = store.vectors(space.id)
        rows = [row for row, name in enumerate(ids) if name not in self._by_content][:MOST_ITEMS]
        items = {item.id: item for item in store.items([ids[row] for row in rows])}
        kept = [row for row in rows if ids[row] in items]
        return {ids[row]: items[ids[row]] for row in kept}, vectors[kept]

    def _broken(self) -> Iterator[CheckFinding]:
        for sample, name in self._names.items():
            reason = self._unreadable.get(str(sample.path))
            if reason is not None:
                yield CheckFinding("unreadable", reason, (name,))

    def _duplicates(self) -> Iterator[CheckFinding]:
        for same in self._by_content.values():
            if len(same) > 1:
                classes = sorted({self._label[sample] for sample in same})
                labels = "" if len(classes) == 1 else f", in different classes: {', '.join(classes)}"
                names = tuple(self._names[sample] for sample in same)
                yield CheckFinding("duplicate", f"the same file {len(same)} times{labels}", names)

    def _near_duplicates(self, gallery: Mapping[str, Item], vectors: NDArray[np.float32]) -> Iterator[CheckFinding]:
        for rows in near_duplicates(self._samples, self._vectors, self._thumbnails):
            classes = sorted({self._labels[row] for row in rows})
            labels = "" if len(classes) == 1 else f", in different classes: {', '.join(classes)}"
            names = tuple(self._names[self._samples[row]] for row in rows)
            yield CheckFinding("near_duplicate", f"{len(rows)} images are nearly the same{labels}", names)
        images = {name: sample for name, item in gallery.items() if (sample := _sample(item)) is not None}
        rows_of = [row for row, name in enumerate(gallery) if name in images]
        found = near_items(self._samples, self._vectors, images, vectors[rows_of], self._thumbnails)
        for row, items in found.items():
            labels = ", ".join(sorted({gallery[name].label or "without a label" for name in items}))
            message = f"nearly the same as an item of the gallery ({labels})"
            yield CheckFinding("near_duplicate", message, (self._names[self._samples[row]],), tuple(items))

    def _known(self) -> Iterator[CheckFinding]:
        if self._workspace is None:
            return
        learned = _learned_images(self._workspace, self._generation)
        items = {item.id: item for item in self._workspace.gallery.store.items(list(self._by_content))}
        for content, same in self._by_content.items():
            item, names = items.get(content), tuple(self._names[sample] for sample in same)
            if item is not None:
                label = f"item of class {item.label}" if item.label else "item without a label"
                yield CheckFinding("known", f"an {label} already", names, (item.id,))
            elif content in learned:
                yield CheckFinding("known", "learned or held out before", names)

    def _tiny(self, classes: Mapping[str, int], known: set[str]) -> Iterator[CheckFinding]:
        for name, number in classes.items():
            if number < FEW_IMAGES and name not in known:
                count = "1 readable image" if number == 1 else f"{number} readable images"
                names = tuple(self._names[sample] for sample, label in self._label.items() if label == name)
                yield CheckFinding("tiny_class", f"class {name} has {count}; {FEW_IMAGES} or more are better", names)

    def _suspected(self, gallery: Mapping[str, Item], vectors: NDArray[np.float32]) -> Iterator[CheckFinding]:
        labels_of_items = [(name, row) for row, name in enumerate(gallery) if gallery[name].label is not None]
        ids = [name for name, _ in labels_of_items]
        rows = [row for _, row in labels_of_items]
        labels = [*self._labels, *(str(gallery[name].label) for name in ids)]
        number = len(self._samples)
        for each in suspected(labels, np.concatenate([self._vectors, vectors[rows]]), number):
            own = self._labels[each.row]
            message = f"labelled {own}, but its neighbours suggest {each.label} (by a margin of {each.margin:.0%})"
            near = [row for row in each.neighbours if row < number]
            items = tuple(ids[row - number] for row in each.neighbours if row >= number)
            names = tuple(self._names[self._samples[row]] for row in (each.row, *near))
            yield CheckFinding("suspected_label", message, names, items)


def _serving(workspace: Workspace | None) -> Generation | None:
    """The generation that answers queries; None where nothing was learned yet."""
    if workspace is None or workspace.serving.read().generation is None:
        return None
    return workspace.serving_generation()


def _sample(item: Item) -> Sample | None:
    try:
        return sample_of(item)
    except DataError:
        return None


def _learned_images(workspace: Workspace, generation: Generation | None) -> set[str]:
    """Content hashes of the images on the line of a generation that were learned from or held out."""
    if generation is None:
        return set()
    probes = workspace.probe_set.probes(workspace.lineage.line(generation.name))
    learned = (workspace.lineage.statistics.hashes(name) for name in generation.info.statistics)
    return {probe.id for probe in probes}.union(*learned)
