"""Plans a removal: which images are meant, what is stored of them, and whether they can be removed."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from scrubjay.data.photos import content_hash
from scrubjay.errors import CatalogueError, DataError
from scrubjay.gate.probe_set import Probe
from scrubjay.generations.generation import Generation
from scrubjay.maintenance.sent_files import sent_files
from scrubjay.search.query_log import QueryLog
from scrubjay.types import Sample
from scrubjay.workspace.removal_request import RemovalRequest
from scrubjay.workspace.workspace import Workspace

LEARNED = "training images in the statistics"
FEATURES = "training images with stored features"
ITEMS = "items of the gallery"
ITEM_FEATURES = "items with stored features"
PROBES = "probe images"
QUERIES = "logged queries"
EMBEDDINGS = "embeddings stored with generations"


@dataclass(frozen=True)
class RemovalPlanner:
    """Plans removals from an open catalogue. Nothing is changed.

    Attributes:
        workspace: the open catalogue.
        query_log: the log of its queries.
    """

    workspace: Workspace
    query_log: QueryLog

    def asked(self, classes: Sequence[str], images: Sequence[str]) -> RemovalRequest:
        """What is asked for, with the content hash of each image.

        Raises:
            DataError: nothing is asked for, or a class was never learned or added.
        """
        if not (classes or images):
            raise DataError("nothing to forget: name a class, or an image with --image.")
        known = self._known_classes()
        for name in classes:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3)
                hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"There are: {', '.join(known)}."
                raise DataError(f"{self.workspace.folder}: class {name!r} was never learned or added. {hint}")
        files = {image: os.path.isfile(image) for image in images}
        hashes = [content_hash(Sample(Path(name), 0)) if is_file else name for name, is_file in files.items()]
        paths = tuple(str(Path(name).absolute()) for name, is_file in files.items() if is_file)
        return RemovalRequest(tuple(dict.fromkeys(classes)), tuple(dict.fromkeys(hashes)), paths=paths)

    def planned(self, request: RemovalRequest, features: Mapping[str, Tensor]) -> RemovalRequest:
        """The request with what there is to be removed, and the generations that are to be replaced.

        Args:
            request: what is asked for.
            features: features of images that are given again; see `SessionStatistics.removable`.

        Raises:
            DataError: nothing is stored of an image, its features are missing, or fewer than two classes are left.
            CatalogueError: a class was learned by training a network.
        """
        lineage = self.workspace.lineage
        counts, involved, left, found = Counter[str](), [], dict[str, tuple[str, ...]](), set[str]()
        for path in lineage.statistics.paths():
            session = lineage.statistics.get(path.stem)
            removed = session.removable(request.classes, request.images, features)
            left[path.stem] = session.classes_without(request.classes, request.images)
            if removed.hashes:
                involved.append(path.stem)
                found |= set(removed.hashes)
                counts[LEARNED] += len(removed.hashes)
                counts[FEATURES] += (
                    0 if session.images is None or session.images.features is None else len(removed.hashes)
                )
        tips = self._tips()
        for tip in tips:
            self._check_left(tip, request, {name for each in tip.info.statistics for name in left[each]})
        first = 0 if lineage.newest is None else lineage.newest.number + 1
        replaced = [tip.name for tip in tips if set(tip.info.statistics) & set(involved)]
        stored, contents, paths = self._stored(request, found)
        return replace(
            request,
            contents=tuple(sorted(contents)),
            paths=tuple(sorted({*request.paths, *paths})),
            counts={LEARNED: counts[LEARNED], FEATURES: counts[FEATURES], **stored},
            successors={name: f"g{first + number}" for number, name in enumerate(replaced)},
            involved=tuple(involved),
        )

    def _stored(self, request: RemovalRequest, learned: set[str]) -> tuple[dict[str, int], set[str], set[str]]:
        """Number of entries to remove outside of the statistics, by place; and content hashes and paths of all images.

        Raises:
            DataError: nothing is stored of an image.
        """
        folder = self.workspace.folder
        items = [item for item in self.workspace.gallery.store.items() if request.concerns(item.label, item.id)]
        probes = [probe for probe in self._probes() if request.concerns(probe.label, probe.id)]
        contents = {*learned, *request.images, *(item.id for item in items), *(probe.id for probe in probes)}
        queries = [query for query in self.query_log.recent() if query.content in contents]
        found = {
            *learned,
            *(query.content for query in queries),
            *(each.id for each in items),
            *(each.id for each in probes),
        }
        for name in request.images:
            if name not in found:
                raise DataError(
                    f"{self.workspace.folder}: nothing is stored of the image {name}: name a file with the same "
                    "content, or the id of an item as `scrubjay search --json` prints it."
                )
        paths = {*request.paths, *(item.uri for item in items), *(probe.original for probe in probes)}
        embeddings = 0
        for generation in self.workspace.lineage.generations():
            stored = self.workspace.lineage.embeddings(generation)
            embeddings += len(stored) - len(stored.without(generation.classes, request.classes, paths))
        ids = [item.id for item in items]
        table = self.workspace.gallery.store.features
        featured = {name for era in table.codecs() for name in table.read(era, ids)[0]}
        counts = {
            ITEMS: len(items),
            ITEM_FEATURES: len(featured),
            PROBES: len(probes),
            QUERIES: len(queries),
            EMBEDDINGS: embeddings,
            **{place: len(files) for place, files in sent_files(folder, request.classes, contents).items()},
        }
        return counts, contents, paths

    def _tips(self) -> list[Generation]:
        """The serving generation, and the newest one that is trained further by default, if it is another one."""
        serving, generations = self.workspace.serving.read(), self.workspace.lineage.by_name()
        kept = [name for name in generations if serving.rolled_back.isdisjoint(self.workspace.lineage.line(name))]
        names = dict.fromkeys(name for name in (serving.generation, *kept[-1:]) if name in generations)
        return [generations[name] for name in names if name is not None]

    def _check_left(self, tip: Generation, request: RemovalRequest, left: set[str]) -> None:
        """Make sure that a generation can be solved again without the removed images."""
        folder, removed = self.workspace.folder, set(request.classes) & set(tip.classes)
        if removed and not tip.info.statistics:
            raise CatalogueError(
                f"{folder}: {tip.name} learned {', '.join(sorted(removed))} with {tip.info.method['name']!r}, which "
                "trains weights, and from weights nothing can be removed exactly: learn the other classes in a new "
                "catalogue."
            )
        if tip.info.statistics and len(left) < 2 and left < set(tip.classes):
            names = ", ".join(sorted(left)) or "none"
            raise DataError(
                f"{folder}: a metric needs two classes and these would be left: {names}. Learn another class first: "
                f"scrubjay learn {folder} PHOTOS, or delete the catalogue."
            )

    def _known_classes(self) -> list[str]:
        """Names of the classes of which anything is stored outside of the descriptions of replaced generations."""
        names = {name for tip in self._tips() for name in tip.classes}
        statistics = self.workspace.lineage.statistics
        names |= {name for path in statistics.paths() for name in statistics.get(path.stem).classes}
        names |= {item.label for item in self.workspace.gallery.store.items() if item.label is not None}
        return sorted(names | {probe.label for probe in self._probes()})

    def _probes(self) -> list[Probe]:
        probe_set = self.workspace.probe_set
        return probe_set.probes(path.parent.name for path in sorted(probe_set.folder.glob("g*/index.json")))
