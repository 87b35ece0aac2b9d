"""Answers queries: embeds the images, searches every reachable space, and decides whether anything matches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import CatalogueError, ScrubjayError
from scrubjay.gallery.gallery import SpaceQuery
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.generation import Generation
from scrubjay.generations.serving import Serving
from scrubjay.search.embedded_query import EmbeddedQuery, embed_requests
from scrubjay.search.identical import identical_first
from scrubjay.search.match_decision import CONSIDERED, MatchRule
from scrubjay.search.novelty import Novelty, novelty
from scrubjay.search.query_image import QueryImage
from scrubjay.search.query_log import Query, QueryLog, brief
from scrubjay.search.request import Answer, QueryRequest
from scrubjay.search.shadow import Compared, answer_pending, compare, selected
from scrubjay.search.timing import part
from scrubjay.types import Hit
from scrubjay.workspace.calibrations import Calibrations
from scrubjay.workspace.workspace import Workspace

Result = list[Answer] | ScrubjayError
"""The answers to a request, or why it cannot be answered."""


class Searcher:
    """Answers queries over an open catalogue."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.query_log = QueryLog(workspace.folder / "queries.sqlite")

    def answer(self, requests: Sequence[QueryRequest]) -> list[Result]:
        """Answer requests together: images are embedded in common forward passes, queries are searched together.

        Each answer is the one that the request gets by itself, up to the rounding of the forward pass. A request that
        cannot be answered does not affect the others.

        Returns:
            For each request one answer for each of its images, or a single one where they are combined; or the error.

        Raises:
            CatalogueError: the serving file is damaged.
        """
        began = time.perf_counter()
        serving = self.workspace.serving.read()
        results: dict[int, Result] = {}
        for name in dict.fromkeys(request.generation or serving.generation for request in requests):
            rows = [row for row, each in enumerate(requests) if (each.generation or serving.generation) == name]
            asked = [requests[row] for row in rows]
            try:
                answered = self._answered_by(name, serving, asked, began)
            except ScrubjayError as error:
                answered = [error] * len(rows)
            results |= zip(rows, answered, strict=True)
        return [results[row] for row in range(len(requests))]

    def _answered_by(
        self, name: str | None, serving: Serving, requests: Sequence[QueryRequest], began: float
    ) -> list[Result]:
        """Answer requests by one generation."""
        workspace = self.workspace
        generation = workspace.serving_generation(serving) if name is None else workspace.lineage.get(name)
        rule = self.match_rule(generation)
        with part("embed"):
            embedded = embed_requests(workspace.encoder(generation), requests, rule.model is not None)
        results: dict[int, Result] = {
            row: queries for row, queries in enumerate(embedded) if isinstance(queries, ScrubjayError)
        }
        logged: list[Query] = []
        for filters in dict.fromkeys(request.filters for request in requests):
            group = {
                row: queries
                for row, queries in enumerate(embedded)
                if not isinstance(queries, ScrubjayError) and requests[row].filters == filters
            }
            queries = [query for own in group.values() for query in own]
            if not queries:
                continue
            try:
                with part("search"):
                    answers = iter(self._searched(rule, queries))
            except ScrubjayError as error:
                results |= dict.fromkeys(group, error)
                continue
            for row, own in group.items():
                given = [next(answers) for _ in own]
                results[row] = given
                if _is_live(requests[row], generation, serving):
                    logged += [_log_entry(*each, serving, began) for each in zip(own, given, strict=True)]
        self.query_log.append(logged)
        return [results[row] for row in range(len(requests))]

    def _searched(self, rule: MatchRule, queries: Sequence[EmbeddedQuery]) -> list[Answer]:
        """Answers to queries with the same filters."""
        workspace, request = self.workspace, queries[0].request
        vectors = np.stack([query.vector for query in queries])
        spaces = self.space_queries(rule.generation, vectors, rule.calibrations)
        considered = [max(each.request.k, 0 if each.features is None else CONSIDERED) for each in queries]
        labels = request.labels or None
        found = workspace.gallery.search_mixed(spaces, max(considered), labels, request.where or None)
        contents = [query.content for query in queries]
        found = identical_first(workspace.gallery.store, contents, spaces, found, not request.filtered)
        unembedded = workspace.gallery.unembedded([space.space for space in spaces])
        return [
            _answer(rule, query, hits[:number], unembedded)
            for query, hits, number in zip(queries, found, considered, strict=True)
        ]

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
            workspace.lineage.has_trained_backbone(generation),
            workspace.options.false_match_rate,
        )

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
        image = QueryImage.read(Path(query.image or ""), workspace.options.images)
        vectors = workspace.encoder(generation).embed_pixels([image.pixels])
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


def _answer(rule: MatchRule, query: EmbeddedQuery, hits: list[Hit], unembedded: int) -> Answer:
    decision = rule.decide(query.features, hits, identical=bool(hits) and hits[0].id == query.content)
    return Answer(
        hits=tuple(hits[: query.request.k]),
        generation=rule.generation.name,
        matched=decision.matched,
        threshold=decision.threshold,
        unembedded=unembedded,
        match_score=decision.score,
        match_basis=decision.basis,
    )


def _is_live(request: QueryRequest, generation: Generation, serving: Serving) -> bool:
    """Whether the queries of a request are logged; see `QueryRequest.log`."""
    several = request.combine and len(request.images) > 1
    return request.log and not request.filtered and not several and generation.name == serving.generation


def _log_entry(query: EmbeddedQuery, answer: Answer, serving: Serving, began: float) -> Query:
    assert query.image is not None
    return Query(
        image=None if query.image.path is None else str(query.image.path),
        content=query.image.content,
        generation=answer.generation,
        vector=query.vector,
        hits=brief(answer.hits),
        matched=answer.matched,
        milliseconds=1000 * (time.perf_counter() - began),
        shadow=_shadow_generation(serving, query.image.content),
    )


def _shadow_generation(serving: Serving, content: str) -> str | None:
    """The generation that is to answer a query too, if the query is one of the share that was asked for."""
    shadow = serving.shadow
    return shadow.generation if shadow is not None and selected(content, shadow.share) else None
