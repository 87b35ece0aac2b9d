"""Answers queries: embeds the image, searches every reachable space, and decides whether anything matches."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrubjay.data.photos import content_hash
from scrubjay.errors import CatalogueError
from scrubjay.gallery.gallery import SpaceQuery
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.generation import Generation
from scrubjay.generations.serving import Serving
from scrubjay.search.match_decision import CONSIDERED, Basis, MatchRule
from scrubjay.search.novelty import Novelty, novelty
from scrubjay.search.query_log import Query, QueryLog, brief
from scrubjay.search.shadow import Compared, answer_pending, compare, selected
from scrubjay.stores import Item
from scrubjay.types import Hit, Sample
from scrubjay.workspace.calibrations import Calibrations
from scrubjay.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a search.

    Attributes:
        hits: best first; an item whose image has the same bytes as the query comes first, with a match of 1.
        generation: name of the generation that embedded the query.
        matched: whether one of the best hits is likely to be of the query's class; None where no threshold is known.
            Of the images of classes that were never learned, a share of about `false_match_rate` is taken for a match,
            on average over such classes, if these are like the learned classes that are left out to compute the
            threshold. That is not claimed for classes that have closer relatives among the learned classes than these
            have among each other.
        threshold: what `match_score` has to exceed for that.
        unembedded: number of items without any vector, which no search finds.
        match_score: the score that was compared with the threshold; see `MatchDecision`.
        match_basis: what the threshold was computed from: classes that are left out of a metric in closed form, or
            probe images whose class is left out of the gallery.
    """

    hits: tuple[Hit, ...]
    generation: str
    matched: bool | None
    threshold: float | None
    unembedded: int
    match_score: float | None = None
    match_basis: Basis | None = None


class Searcher:
    """Answers queries over an open catalogue."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.query_log = QueryLog(workspace.folder / "queries.sqlite")

    def answer(self, image: Path, k: int, labels: Sequence[str] | None, where: Mapping[str, Any] | None) -> Answer:
        """Search the gallery with one image; see `Catalogue.answer`."""
        began = time.perf_counter()
        workspace, sample = self.workspace, Sample(image, 0)
        serving = workspace.serving.read()
        generation = workspace.serving_generation(serving)
        rule = self.match_rule(generation)
        features, vectors = self._embedded(generation, sample, rule)
        content = content_hash(sample)
        queries = self.space_queries(generation, vectors, rule.calibrations)
        considered = max(k, CONSIDERED) if features is not None else k
        (found,) = workspace.gallery.search_mixed(queries, considered, labels, where)
        unfiltered = not labels and not where
        found = self._identical_first(content, queries, found, considered, unfiltered)
        decision = rule.decide(features, found, identical=bool(found) and found[0].id == content)
        hits = found[:k]
        if unfiltered:
            query = Query(
                image=str(image.absolute()),
                content=content,
                generation=generation.name,
                vector=vectors[0],
                hits=brief(hits),
                matched=decision.matched,
                milliseconds=1000 * (time.perf_counter() - began),
                shadow=_shadow_generation(serving, content),
            )
            self.query_log.append(query)
        unembedded = workspace.gallery.unembedded([query.space for query in queries])
        return Answer(
            hits=tuple(hits),
            generation=generation.name,
            matched=decision.matched,
            threshold=decision.threshold,
            unembedded=unembedded,
            match_score=decision.score,
            match_basis=decision.basis,
        )

    def match_rule(self, generation: Generation) -> MatchRule:
        """How queries of a generation are decided, with the rate of the catalogue.

        Raises:
            CheckpointError: a file of its calibrations is damaged.
        """
        workspace = self.workspace
        return MatchRule(
            generation,
            workspace.calibrations(generation),
            workspace.match_model(generation),
            workspace.options.false_match_rate,
        )

    def _embedded(
        self, generation: Generation, sample: Sample, rule: MatchRule
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.float32]]:
        """Trunk features (1, p) of a query where a match model needs them, and its unit vector (1, d)."""
        encoder = self.workspace.encoder(generation)
        if rule.model is None:
            return None, encoder.embed_query(sample).vectors
        features = encoder.query_features(sample)
        return features, encoder.project(features)

    def space_queries(
        self, generation: Generation, vectors: NDArray[np.float32], calibrations: Calibrations
    ) -> list[SpaceQuery]:
        """Queries of a generation carried into every space that it can search, nearest first.

        Args:
            generation: the generation that embedded the queries.
            vectors: float32 (Q, d), unit rows.
            calibrations: calibrations of this generation.
        """
        own = space_of(generation)
        queries = []
        for space in self.workspace.searched_spaces(generation):
            carried = vectors
            if space.id not in calibrations.direct:
                carried = self.workspace.bridge_paths.bridge(generation.name, space.generation)(vectors)
            queries.append(SpaceQuery(space, carried, calibrations.of_space(space.id, own.id)))
        return queries

    def compare_shadow(self) -> Compared:
        """Let the shadow generation answer its pending queries, and compare its answers with those that were given.

        Raises:
            CatalogueError: no shadow generation is set.
        """
        shadow = self.workspace.serving.read().shadow
        if shadow is None:
            folder = self.workspace.folder
            raise CatalogueError(
                f"{folder}: no shadow generation is set; set one with: scrubjay shadow {folder} GENERATION"
            )
        answer_pending(self.query_log, self.shadow_answer)
        return compare(self.query_log.answered(shadow.generation))

    def shadow_answer(self, query: Query) -> list[Hit]:
        """What the shadow generation finds for a query that was answered before.

        Raises:
            ImageError: the image of the query cannot be read any more.
        """
        workspace = self.workspace
        generation = workspace.lineage.get(str(query.shadow))
        vectors = workspace.encoder(generation).embed_query(Sample(Path(query.image or ""), 0)).vectors
        queries = self.space_queries(generation, vectors, workspace.calibrations(generation))
        return workspace.gallery.search_mixed(queries, max(1, len(query.hits)))[0]

    def novelty(self) -> Novelty | None:
        """Whether recent queries look like classes that were never learned; None without a match threshold."""
        workspace = self.workspace
        generation = workspace.serving_generation()
        rule = self.match_rule(generation)
        threshold, _ = rule.threshold
        if threshold is None:
            return None
        own_id = space_of(generation).id
        calibration = rule.calibrations.of_space(own_id, own_id)
        queries = [query for query in self.query_log.recent() if query.generation == generation.name]
        return novelty(queries, rule.known_scores, threshold, -calibration.offset / calibration.slope)

    def _identical_first(
        self, content: str, queries: Sequence[SpaceQuery], hits: list[Hit], k: int, unfiltered: bool
    ) -> list[Hit]:
        """The hits, led by the item whose image has the same bytes as the query: that match is certain.

        An unfiltered search returns that item even if it was not among the hits.
        """
        identical = next((hit for hit in hits if hit.id == content), None)
        if identical is None and unfiltered:
            identical = next((self._hit(item, queries) for item in self.workspace.gallery.store.items([content])), None)
        if identical is None:
            return hits
        return [replace(identical, match=1.0), *(hit for hit in hits if hit.id != content)][:k]

    def _hit(self, item: Item, queries: Sequence[SpaceQuery]) -> Hit | None:
        for query in queries:
            ids, vectors = self.workspace.gallery.store.vectors(query.space.id, [item.id])
            if ids:
                score = float(np.clip(query.vectors[0] @ vectors[0], -1, 1))
                return Hit(item.id, item.uri, item.label, score, query.space.generation, item.metadata)
        return None


def _shadow_generation(serving: Serving, content: str) -> str | None:
    """The generation that is to answer a query too, if the query is one of the share that was asked for."""
    shadow = serving.shadow
    return shadow.generation if shadow is not None and selected(content, shadow.share) else None
