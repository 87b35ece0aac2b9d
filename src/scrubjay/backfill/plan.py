"""Plans a backfill (which items to re-embed first, what that costs and gains) and runs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from scrubjay.backfill import Backfill, Backfilled, Limits
from scrubjay.backfill.priority import BackfillQueue, backfill_order, expected_errors, gains_per_second, score_gradients
from scrubjay.errors import CatalogueError, DataError
from scrubjay.gallery.features import lacking_features
from scrubjay.gallery.items import ITEMS, sample_of
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.generation import Generation
from scrubjay.io.journal import Journal
from scrubjay.models.embedding import Encoder
from scrubjay.promotion.gallery_view import calibrated_view, gallery_slices, probe_queries
from scrubjay.search.query_log import QueryLog
from scrubjay.stores import Space, Store
from scrubjay.workspace.workspace import Workspace

CHECKED = 4
"""Number of batches between two measurements of the recall."""
TIMED = 32
"""Number of images that are embedded to measure the time of one."""
PROJECTED = 256
"""Number of items whose stored features are projected to measure the time of one."""
SHOWN = 5
"""Number of items that the description of a plan names."""
BLOCK = 4096
"""Number of vectors that are read at a time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a backfill would do.

    Attributes:
        generation: name of the generation that would embed.
        ids: ids of the N items in the order of the work; items without any vector come first.
        gains: float64 (N,), expected gain of each item for each second of embedding; infinite without any vector.
        seconds: float64 (N,), estimated seconds to embed each item.
        from_features: number of items that would be embedded from their stored features; the others from their images.
        spaces: number of items by the name of the generation whose vectors find them now; "nothing" counts the items
            without any vector.
        first: URIs of the first few items.
        strategy: the strategy that ordered the items.
    """

    generation: str
    ids: tuple[str, ...]
    gains: NDArray[np.float64]
    seconds: NDArray[np.float64]
    from_features: int
    spaces: dict[str, int]
    first: tuple[str, ...]
    strategy: str

    def lines(self) -> list[str]:
        """The plan as lines for a terminal."""
        if not self.ids:
            return [f"nothing to do: every item is embedded by {self.generation}."]
        by = ", ".join(f"{count} by {name}" for name, count in self.spaces.items())
        lines = [
            f"{len(self.ids)} items to embed with {self.generation}, about {self.seconds.sum():.0f} s: "
            f"{self.from_features} from stored features, {len(self.ids) - self.from_features} from their images.",
            f"found now: {by}.",
            f"order: {self.strategy}. Share of the expected gain that is reached with the first …",
        ]
        is_finite = np.isfinite(self.gains)
        gains = np.where(is_finite, self.gains, self.gains[is_finite].max(initial=0.0))
        total = max(float(gains.sum()), 1e-12)
        for share in (0.1, 0.25, 0.5):
            number = max(1, round(share * len(self.ids)))
            seconds = self.seconds[:number].sum()
            lines.append(f"  {share:4.0%} ({number} items, {seconds:.0f} s): {gains[:number].sum() / total:.0%}")
        return [*lines, "first items:", *(f"  {uri}" for uri in self.first)]


class BackfillPlanner:
    """Plans and runs backfills of one catalogue with the generation that answers.

    Args:
        workspace: the open catalogue.
        query_log: log of live queries: items that are found often come earlier.
    """

    def __init__(self, workspace: Workspace, query_log: QueryLog) -> None:
        self.workspace = workspace
        self.query_log = query_log

    def plan(self, strategy: str = "gain") -> Plan:
        """Plan a backfill without changing anything.

        Raises:
            ConfigError: the strategy is unknown.
        """
        generation = self.workspace.serving_generation()
        store, own = self.workspace.gallery.store, space_of(generation)
        if own in store.spaces():
            remaining = dict.fromkeys(store.missing(own.id))
        else:
            remaining = dict.fromkeys(item.id for item in store.items())
        costs = self._seconds(remaining, generation)
        from_features = sum(is_stored for is_stored, _ in costs.values())
        by_space = self._by_space(generation, remaining)
        names = [name for held in by_space.values() for name in held]
        labels = {item.id: item.label for item in store.items()} if strategy == "label" else {}
        queue = BackfillQueue(
            [labels.get(name) for name in names],
            self._errors(by_space, generation) if strategy == "uncertainty" else np.ones(len(names)),
            self._weighted_gradients(names, generation),
            np.array([costs[name][1] for name in names]),
        )
        positions, gains = backfill_order(strategy, queue), gains_per_second(queue)
        ranked = [*remaining, *(names[position] for position in positions)]
        found_by = {space.generation: len(held) for space, held in by_space.items()}
        if remaining:
            found_by["nothing"] = len(remaining)
        return Plan(
            generation.name,
            tuple(ranked),
            np.concatenate([np.full(len(remaining), np.inf), gains[positions]]),
            np.array([costs[name][1] for name in ranked]),
            from_features,
            found_by,
            tuple(item.uri for item in store.items(ranked[:SHOWN])),
            strategy,
        )

    def run(self, limits: Limits, strategy: str = "gain", until_recall: float | None = None) -> Backfilled:
        """Embed items in the order of the plan; see `Backfill.run`.

        Args:
            limits: when to stop early.
            strategy: order of the items.
            until_recall: stop when the probe images reach this recall@1 in the gallery.

        Raises:
            CatalogueError: there are no probe images to measure the recall.
        """
        workspace = self.workspace
        generation = workspace.serving_generation()
        if until_recall is not None:
            limits = replace(limits, until=self._recall_reached(generation, until_recall))
        journal = Journal(workspace.folder / "backfill" / f"{generation.name}.jsonl")
        backfill = Backfill(
            workspace.gallery.store,
            space_of(generation),
            generation.folder,
            workspace.options.images,
            journal,
            workspace.feature_writer(generation),
        )
        return backfill.run(self.plan(strategy).ids, limits)

    def score_gradients(self, generation: Generation) -> dict[str, float]:
        """For each item the gradient of the ranking loss of the probe images by its score; see `backfill.priority`.

        A large gallery is processed in parts, each of which is a random sample of it. Empty without probe images.
        """
        queries = probe_queries(self.workspace, generation)
        gradients: dict[str, float] = {}
        remaining = self.workspace.gallery.store.items()
        while queries.probes and (items := list(islice(remaining, ITEMS))):
            slices = gallery_slices(self.workspace, generation, items)
            if slices:
                view = calibrated_view(self.workspace, generation, queries, slices)
                values = score_gradients(view.scores, view.matches(), view.counted())
                gradients |= dict(zip(view.ids, values.tolist(), strict=True))
        return gradients

    def _recall_reached(self, generation: Generation, recall: float) -> Callable[[], bool]:
        """A function to call after every batch, which returns whether the recall@1 is reached by now."""
        queries = probe_queries(self.workspace, generation)
        if not queries.probes:
            raise CatalogueError("no probe images to measure the recall: give --items or --budget instead.")
        batches = count(1)

        def reached() -> bool:
            if next(batches) % CHECKED:
                return False
            slices = gallery_slices(self.workspace, generation)
            view = calibrated_view(self.workspace, generation, queries, slices).only(queries.centre)
            scores = view.evaluate()
            return scores.queries > 0 and scores.recall[1] >= recall

        return reached

    def _by_space(self, generation: Generation, remaining: dict[str, None]) -> dict[Space, list[str]]:
        """Ids of the items that are found by older vectors, by space. They are removed from `remaining`."""
        store, own = self.workspace.gallery.store, space_of(generation)
        by_space = {}
        for space in self.workspace.searched_spaces(generation):
            if space == own or not remaining:
                continue
            missing = set(store.missing(space.id))
            held = [name for name in remaining if name not in missing]
            for name in held:
                del remaining[name]
            if held:
                by_space[space] = held
        return by_space

    def _weighted_gradients(self, names: list[str], generation: Generation) -> NDArray[np.float64]:
        """Score gradients of items, larger for items that live queries find often; all equal without probe images."""
        gradients, counts = self.score_gradients(generation), self.query_log.counts()
        default = 0.0 if gradients else 1.0
        return np.array([gradients.get(name, default) * (1 + np.log1p(counts[name])) for name in names])

    def _errors(self, by_space: Mapping[Space, list[str]], generation: Generation) -> NDArray[np.float64]:
        """Expected error of the bridge for each item, from images that both generations have embedded."""
        train = self.workspace.lineage.embeddings(generation).train
        if generation.parent is None or train is None or train.old is None:
            return np.ones(sum(map(len, by_space.values())))
        bridge = self.workspace.bridge_paths.bridge
        carried = bridge(generation.parent, generation.name)(train.old)
        known = (1 - np.vecdot(carried, train.new)).astype(np.float64)
        errors = [np.empty(0)]
        for space, names in by_space.items():
            carry = bridge(space.generation, generation.parent)
            for start in range(0, len(names), BLOCK):
                _, vectors = self.workspace.gallery.store.vectors(space.id, names[start : start + BLOCK])
                errors.append(expected_errors(carry(vectors), train.old, known))
        return np.concatenate(errors)

    def _seconds(self, names: Iterable[str], generation: Generation) -> dict[str, tuple[bool, float]]:
        """By id, whether the features of an item are stored, and the seconds to embed it."""
        store = self.workspace.gallery.store
        encoder = self.workspace.encoder(generation)
        lacking = lacking_features(store, encoder.era)
        is_stored = {name: lacking is not None and name not in lacking for name in names}
        stored = [name for name in is_stored if is_stored[name]]
        others = [name for name in is_stored if not is_stored[name]]
        per_item = _seconds_per_projection(store, encoder, stored[:PROJECTED])
        per_image = _seconds_per_image(store, encoder, others[:TIMED])
        return {name: (held, per_item if held else per_image) for name, held in is_stored.items()}


def _seconds_per_projection(store: Store, encoder: Encoder, names: Sequence[str]) -> float:
    """Seconds to read and project the stored features of one item; 0 where there are no items."""
    if not names:
        return 0.0
    began = time.perf_counter()
    encoder.project(store.features.read(encoder.era, names)[1])
    return (time.perf_counter() - began) / len(names)


def _seconds_per_image(store: Store, encoder: Encoder, names: Sequence[str]) -> float:
    """Seconds to embed one image, measured on a few readable ones; 0 where there are none."""
    samples = [sample_of(item) for item in store.items(names)]
    if not samples:
        return 0.0
    began = time.perf_counter()
    try:
        embedded = encoder.embed(samples)
    except DataError:
        return 0.0
    return (time.perf_counter() - began) / max(1, len(embedded.indices))
