"""A gallery as the queries of one generation see it: its items by embedding space, with the probe images as queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrubjay.evaluation.retrieval import RetrievalScores, evaluate_scores
from scrubjay.gallery.calibration import Calibration, probability
from scrubjay.gate.probe_set import Probe

IDENTITY = Calibration(1.0, 0.0)
"""The calibration that leaves cosines unchanged."""


@dataclass(frozen=True, slots=True)
class GallerySlice:
    """The items of the gallery that are compared in one embedding space.

    Attributes:
        space: id of the space.
        ids: ids of the N items.
        uris: where their images are.
        labels: names of their classes; None where an item has none.
        vectors: float32 (N, d), in that space.
    """

    space: str
    ids: Sequence[str]
    uris: Sequence[str]
    labels: Sequence[str | None]
    vectors: NDArray[np.float32]

    def only(self, ids: set[str]) -> GallerySlice:
        """The part of the slice that holds these items."""
        rows = [row for row, name in enumerate(self.ids) if name in ids]
        return GallerySlice(
            self.space,
            [self.ids[row] for row in rows],
            [self.uris[row] for row in rows],
            [self.labels[row] for row in rows],
            self.vectors[rows],
        )


class GalleryView:
    """Probe images as queries of one generation over slices of a gallery, each item in one slice.

    Args:
        probes: the image of each of Q queries.
        slices: slices of the gallery.
        cosines: for each slice the cosines (Q, N) of the queries, carried into its space, with its items.
        calibrations: for each slice the calibration of its cosines.
        direct: ids of the spaces that the queries entered without a bridge, because the bridge retrieved less.

    Attributes:
        ids: ids of all items, slice after slice.
        uris: where their images are.
        labels: names of their classes; None where an item has none.
        scores: float64 (Q, items), calibrated scores.
        own: int64 (Q,), position of the item that is the query image itself; −1 where the gallery does not hold it.
    """

    def __init__(
        self,
        probes: Sequence[Probe],
        slices: Sequence[GallerySlice],
        cosines: Sequence[NDArray[np.floating[Any]]],
        calibrations: Sequence[Calibration],
        direct: frozenset[str] = frozenset(),
    ) -> None:
        self.probes, self.slices, self.cosines = probes, slices, cosines
        self.calibrations, self.direct = calibrations, direct
        self.ids = [name for part in slices for name in part.ids]
        self.uris = [uri for part in slices for uri in part.uris]
        self.labels = [label for part in slices for label in part.labels]
        calibrated = [calibration(block) for block, calibration in zip(cosines, calibrations, strict=True)]
        self.scores: NDArray[np.float64] = np.hstack([np.empty((len(probes), 0)), *calibrated])
        positions = {name: position for position, name in enumerate(self.ids)}
        self.own = np.array([positions.get(probe.id, -1) for probe in probes], dtype=np.int64)

    def matches(self) -> NDArray[np.bool_]:
        """Bool (Q, items), whether query and item are of one class."""
        labels = np.array([str(label) for label in self.labels])
        matches: NDArray[np.bool_] = np.array([probe.label for probe in self.probes])[:, None] == labels[None, :]
        return matches

    def counted(self) -> NDArray[np.bool_]:
        """Bool (Q, items), whether an item counts for a query: all but the query image itself."""
        ids = np.array(self.ids)
        counted: NDArray[np.bool_] = np.array([probe.id for probe in self.probes])[:, None] != ids[None, :]
        return counted

    def only(self, rows: NDArray[np.int64]) -> GalleryView:
        """The view of some of the queries."""
        return GalleryView(
            [self.probes[row] for row in rows.tolist()],
            self.slices,
            [block[rows] for block in self.cosines],
            self.calibrations,
            self.direct,
        )

    def evaluate(self, queries: NDArray[np.bool_] | None = None, classes: set[str] | None = None) -> RetrievalScores:
        """Retrieval figures of the probe images.

        Args:
            queries: bool (Q,), which queries count; None: all of them.
            classes: search only among items of these classes; None: among all items.

        Returns:
            The figures; `positions` count the selected queries from 0.
        """
        rows = np.arange(len(self.probes)) if queries is None else np.flatnonzero(queries)
        items = np.flatnonzero([classes is None or label in classes for label in self.labels])
        codes = {label: code for code, label in enumerate(dict.fromkeys(probe.label for probe in self.probes))}
        position = np.full(len(self.labels) + 1, -1, dtype=np.int64)  # the last entry is looked up by own = −1
        position[items] = np.arange(len(items))
        return evaluate_scores(
            self.scores[np.ix_(rows, items)],
            np.array([codes[self.probes[row].label] for row in rows.tolist()], dtype=np.int64),
            np.array([codes.get(str(self.labels[item]), -1) for item in items], dtype=np.int64),
            own=position[self.own[rows]],
        )

    def first_items(self) -> NDArray[np.int64]:
        """int64 (Q,), the position of the best item of each query, the query image itself left out."""
        scores = self.scores.copy()
        inside = np.flatnonzero(self.own >= 0)
        scores[inside, self.own[inside]] = -np.inf
        first: NDArray[np.int64] = scores.argmax(axis=1)
        return first

    def best_match_scores(self) -> tuple[list[float], list[float]]:
        """The best probability of a match of each query among items of other classes, and among its own class.

        The first is what an image gets whose class is not in the gallery. The query image itself is left out of both.
        """
        matches, counted = self.matches(), self.counted()
        others, own = (
            [float(probability(row[mask].max())) for row, mask in zip(self.scores, masks, strict=True) if mask.any()]
            for masks in (~matches & counted, matches & counted)
        )
        return others, own
