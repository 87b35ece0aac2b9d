"""The probe images at work: calibrations of a generation's scores, and the gate's report on a candidate."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrubjay.backfill.priority import pulls
from scrubjay.errors import CatalogueError, CheckpointError
from scrubjay.gallery.calibration import Calibration, Pairs, fit_calibrations
from scrubjay.gallery.ingest import sample_of
from scrubjay.gate.decision import Part, Standing, best_scores, evaluated, measure
from scrubjay.gate.probe_set import ProbeSet, Queries
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.lineage import Generation
from scrubjay.learning.bridge_pairs import EMBEDDED, ITEMS, embeddable
from scrubjay.search.searcher import Answering, Calibrations
from scrubjay.stores import Item, Space
from scrubjay.types import Sample

AS_IT_IS = Calibration(1.0, 0.0)
"""What leaves cosines alone."""
CHECKED = 4
"""Batches of a backfill between two looks at the recall."""


@dataclass(frozen=True)
class Judging:
    """Judges generations of one catalogue."""

    answering: Answering

    def gate(self, candidate: Generation) -> dict[str, Any]:
        """The report on a candidate.

        Raises:
            CatalogueError: it answers already.
        """
        if self.answering.serving.read().generation is None:  # its file was lost, and what answered is not known
            note: dict[str, Any] = {"note": "no generation answers yet", "probe": {"images": 0, "kind": "images"}}
            return {"candidate": candidate.name, "serving": None, "passed": True, "reasons": [], **note}
        serving = self.answering.generation()
        if candidate.name == serving.name:
            raise CatalogueError(f"{self.answering.folder}: {candidate.name} answers already.")
        probed = {each.name: self._queries(each, serving, candidate) for each in (serving, candidate)}
        report: dict[str, Any] = {"candidate": candidate.name, "serving": serving.name}
        probes = probed[candidate.name].probes
        if not self.answering.gallery.count():
            found: dict[str, Any] = {"passed": True, "reasons": [], "note": "the gallery is empty"}
        elif not (self._parts(serving) or self._parts(candidate)):
            found = {"passed": True, "reasons": [], "note": "no item of the gallery has a vector yet"}
        elif not probes:
            reason = "no probe images: none were held out when its classes were learned, or probe.images is 0"
            found = {"passed": False, "reasons": [reason]}
        else:
            before = self._standing(serving, probed[serving.name], candidate, serving)
            after = self._standing(candidate, probed[candidate.name], candidate, serving)
            found = measure(probes, serving.classes, before, after, self.answering.options.gate)
        kind = "embeddings" if probes and probes[0].sample is None else "images"
        return {
            **report,
            **found,
            **self._sampled(candidate, probed[candidate.name]),
            "bridges": candidate.info.get("bridges", {}),
            "probe": {"images": len({probe.id for probe in probes}), "kind": kind},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def calibrate(self, generation: Generation) -> None:
        """Learn from the probe images what scores of a generation's queries mean, in every space of the gallery."""
        queries = self._queries(generation, generation)
        parts = self._parts(generation)
        if not queries.probes or not parts:
            return
        own = space_of(generation).id
        seen = [] if any(part.space == own for part in parts) else [self._seen(generation)]
        standing = self._calibrated(generation, queries, [*parts, *(part for part in seen if len(part.ids))])
        found = {part.space: line for part, line in zip(standing.parts, standing.calibrations, strict=True)}
        number = len(parts)
        gallery = Standing(parts, standing.queries[:number], standing.calibrations[:number])
        unknown, known = best_scores(queries.probes, gallery)
        straight = tuple(
            part.space
            for part, vectors in zip(parts, gallery.queries, strict=True)
            if vectors is queries.vectors and part.space != own
        )
        Calibrations(found, straight, unknown, known).save(self.answering.calibrations_path(generation))

    def _seen(self, generation: Generation) -> Part:
        """The images that a generation has learned from, where the gallery holds nothing of its space yet."""
        embedded = self.answering.lineage.embedded(generation)
        labels = [generation.classes[label] for label in embedded["train.labels"].tolist()] if embedded else []
        names = [f"{generation.name}/{row}" for row in range(len(labels))]
        vectors = embedded["train.new"].numpy() if embedded else np.empty((0, 0), np.float32)
        return Part(space_of(generation).id, names, names, labels, vectors)

    def pulls(self, generation: Generation) -> dict[str, float]:
        """The pull of the probe images on each item, by its id; see `scrubjay.backfill.priority`.

        A large gallery is looked at a part at a time, each of which is a sample of the whole. Empty without probes.
        """
        queries = self._queries(generation, generation)
        found: dict[str, float] = {}
        coming = self.answering.gallery.store.items()
        while queries.probes and (items := list(islice(coming, ITEMS))):
            standing = self._calibrated(generation, queries, self._parts(generation, items))
            if standing.parts:
                matches, counted = standing.pairs(queries.probes)
                found |= dict(zip(standing.ids, pulls(standing.scores(), matches, counted).tolist(), strict=True))
        return found

    def reached(self, generation: Generation, recall: float) -> Callable[[], bool]:
        """Whether the probe images have this recall@1 in the gallery by now.

        Raises:
            CatalogueError: there are no probe images to tell.
        """
        queries = self._queries(generation, generation)
        if not queries.probes:
            raise CatalogueError("no probe images tell the recall: give --items or --budget instead.")
        batches = count(1)

        def reached() -> bool:
            if next(batches) % CHECKED:
                return False
            found = evaluated(queries.probes, self._calibrated(generation, queries, self._parts(generation)))
            return found is not None and found["recall@1"] >= recall

        return reached

    def _queries(self, generation: Generation, *ends: Generation) -> Queries:
        """The probe images of the lines that end in some generations, as queries of one of them."""
        answering = self.answering
        names = dict.fromkeys(name for end in ends for name in reversed(answering.lineage.line(end.name)))

        def embedded(samples: Sequence[Sample]) -> NDArray[np.float32]:
            found = answering.embed(generation, samples)
            if found.failures:
                path, reason = found.failures[0]
                raise CheckpointError(f"{path}: a probe image cannot be read ({reason}): restore it from a copy.")
            return found.vectors

        def carry(name: str, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
            return answering.routes.bridge(name, generation.name)(vectors)

        return ProbeSet(answering.folder / "probe").queries(names, generation.fingerprint, embedded, carry)

    def _parts(self, generation: Generation, items: Iterable[Item] | None = None) -> list[Part]:
        """Items, by default a sample of the gallery, as queries of a generation find them: in the nearest space."""
        store = self.answering.gallery.store
        left = {item.id: item for item in (islice(store.items(), ITEMS) if items is None else items)}
        parts = []
        for space in self.answering.routes.order(generation.name, store.spaces()):
            if not left:
                break
            held, vectors = store.vectors(space.id, list(left))
            items = [left.pop(name) for name in held]
            if items:
                parts.append(_part(space.id, items, vectors))
        return parts

    def _standing(
        self, generation: Generation, queries: Queries, candidate: Generation, serving: Generation
    ) -> Standing:
        parts = self._parts(generation)
        there = {label for part in parts for label in part.labels}
        parts += [part for part in self._newcomers(generation, candidate, serving, there) if len(part.ids)]
        return self._calibrated(generation, queries, parts)

    def _newcomers(
        self, generation: Generation, candidate: Generation, serving: Generation, there: set[str | None]
    ) -> list[Part]:
        """Images of classes that the gallery does not hold yet, as if a generation had embedded them."""
        lineage, parts = self.answering.lineage, []
        known = set(lineage.line(serving.name))
        for name in reversed(lineage.line(candidate.name)):
            if name in known:
                continue
            learner = lineage.get(name)
            embedded = lineage.embedded(learner)
            if not embedded:
                continue
            source, which = (name, "new") if generation.name == candidate.name else (learner.parent, "old")
            labels = [learner.classes[label] for label in embedded["train.labels"].tolist()]
            fresh = [row for row, label in enumerate(labels) if label not in there]
            vectors = self.answering.routes.bridge(str(source), generation.name)(
                embedded[f"train.{which}"].numpy()[fresh]
            )
            paths = os.fsdecode(embedded["train.paths"].numpy().tobytes()).split("\0")
            ids = [f"{name}/{row}" for row in fresh]
            parts.append(
                Part(
                    space_of(generation).id, ids, [paths[row] for row in fresh], [labels[row] for row in fresh], vectors
                )
            )
        return parts

    def _calibrated(self, generation: Generation, queries: Queries, parts: Sequence[Part]) -> Standing:
        spaces = {space.id: space for space in (*self.answering.gallery.store.spaces(), space_of(generation))}
        of = list(dict.fromkeys(part.space for part in parts))
        over = {
            space: self._carried(generation, queries, spaces[space], [part for part in parts if part.space == space])
            for space in of
        }
        carried = [over[part.space] for part in parts]
        pairs = []
        for space in of:
            mine = [row for row, part in enumerate(parts) if part.space == space]
            leg = Standing([parts[row] for row in mine], [carried[row] for row in mine], [AS_IT_IS] * len(mine))
            pairs.append(Pairs(leg.scores(), *leg.pairs(queries.probes)))
        fitted = dict(zip(of, fit_calibrations(pairs), strict=True))
        return Standing(parts, carried, [fitted[part.space] for part in parts])

    def _carried(
        self, generation: Generation, queries: Queries, space: Space, parts: Sequence[Part]
    ) -> NDArray[np.float32]:
        """Queries in the space of some items: over the bridges, or as they are where probe images find more so.

        Each bridge is judged when it is made; what several do one after the other shows here alone.
        """
        bridge = self.answering.routes.bridge(generation.name, space.generation)
        carried = bridge(queries.vectors)
        judges = bridge.kind != "identity" and all(probe.sample for probe in queries.probes)
        if not judges or space.dim != space_of(generation).dim:
            return carried
        found = [
            evaluated(queries.probes, Standing(parts, [vectors] * len(parts), [AS_IT_IS] * len(parts)))
            for vectors in (carried, queries.vectors)
        ]
        over, straight = ({} if each is None else each for each in found)
        return queries.vectors if straight.get("map_at_r", 0.0) > over.get("map_at_r", 0.0) else carried

    def _sampled(self, candidate: Generation, queries: Queries) -> dict[str, Any]:
        """What it costs to embed items with the candidate, and what that brings, on a sample of the gallery."""
        items = embeddable(self.answering, EMBEDDED)
        if not items:
            return {"backfill": None, "sample": None}
        began = time.perf_counter()
        embedded = self.answering.embed(candidate, [sample_of(item) for item in items])
        rate = len(embedded.indices) / max(time.perf_counter() - began, 1e-9)
        kept = [items[index] for index in embedded.indices]
        space = space_of(candidate)
        waiting = self.answering.gallery.store.coverage(space)[1]
        stored = [_only(part, {item.id for item in kept}) for part in self._parts(candidate)]
        galleries = {
            "stored": [part for part in stored if len(part.ids)],
            "reindexed": [_part(space.id, kept, embedded.vectors)],
        }
        figures = {
            name: evaluated(queries.probes, self._calibrated(candidate, queries, parts))
            if queries.probes and parts
            else None
            for name, parts in galleries.items()
        }
        cost = {"items": waiting, "images_per_second": round(rate, 1), "seconds": round(waiting / rate, 1)}
        return {"backfill": cost, "sample": {"items": len(kept), **figures}}


def _part(space: str, items: Sequence[Item], vectors: NDArray[np.float32]) -> Part:
    return Part(
        space, [item.id for item in items], [item.uri for item in items], [item.label for item in items], vectors
    )


def _only(part: Part, names: set[str]) -> Part:
    rows = [row for row, name in enumerate(part.ids) if name in names]
    ids, uris = ([column[row] for row in rows] for column in (part.ids, part.uris))
    return replace(part, ids=ids, uris=uris, labels=[part.labels[row] for row in rows], vectors=part.vectors[rows])
