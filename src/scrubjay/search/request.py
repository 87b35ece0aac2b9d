"""What is asked of a search, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scrubjay.errors import ConfigError
from scrubjay.search.match_decision import Basis
from scrubjay.search.query_image import QueryImage
from scrubjay.types import Hit


@dataclass(frozen=True, slots=True, eq=False)
class QueryRequest:
    """Images to search with, and the settings of their search.

    Attributes:
        images: one or more.
        k: number of hits of each answer, at least 1.
        labels: consider only items with one of these labels; empty for all.
        where: consider only items whose metadata have all these values.
        combine: take the images as views of one object: one answer, by the normalised mean of their embeddings.
        generation: name of the generation that answers; None: the one that serves.
        log: write the queries to the query log. Searches with filters, combined ones and those by another generation
            than the serving one are never logged, as they are no evidence of what the gallery lacks.

    Raises:
        ConfigError: there is no image, or k is less than 1.
    """

    images: tuple[QueryImage, ...]
    k: int = 10
    labels: tuple[str, ...] = ()
    where: Mapping[str, Any] = field(default_factory=dict)
    combine: bool = False
    generation: str | None = None
    log: bool = True

    def __post_init__(self) -> None:
        if not self.images:
            raise ConfigError("a search without an image; give at least one.")
        if self.k < 1:
            raise ConfigError(f"k = {self.k}; ask for 1 hit or more.")

    @property
    def filters(self) -> tuple[tuple[str, ...], str]:
        """Equal for two requests exactly when they consider the same items."""
        return self.labels, repr(sorted(self.where.items()))

    @property
    def filtered(self) -> bool:
        """Whether only a part of the items is considered."""
        return bool(self.labels or self.where)


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
            have among each other, and only with a `match_basis` of "left-out classes".
        threshold: what `match_score` has to exceed for that.
        unembedded: number of items without any vector, which no search finds.
        match_score: the score that was compared with the threshold; see `MatchDecision`.
        match_basis: what the threshold was computed from: classes that are left out of a metric in closed form, the
            same with a backbone that was trained on them, or probe images whose class is left out of the gallery.
    """

    hits: tuple[Hit, ...]
    generation: str
    matched: bool | None
    threshold: float | None
    unembedded: int
    match_score: float | None = None
    match_basis: Basis | None = None
