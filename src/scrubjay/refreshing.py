"""The backfill of a catalogue: what to embed first, what it would cost and bring, and doing it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrubjay.adding import sample_of
from scrubjay.answering import Answering
from scrubjay.backfill import Backfill, Backfilled, Limits
from scrubjay.errors import DataError
from scrubjay.journal import Journal
from scrubjay.judging import Judging
from scrubjay.lineage import Generation
from scrubjay.planning import Waiting, expected_errors, gains, order
from scrubjay.routes import space_of
from scrubjay.stores import Space

TIMED = 32
"""Pictures that are embedded to see what one takes."""
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What a backfill would do.

    Attributes:
        generation: that would embed.
        ids: of the items, first to last; those without any vector come first of all.
        gains: float64 (N,), expected gain an image-second of each, in the same order; infinite without any vector.
        spaces: how many of them are found by which generation now; "nothing" without any vector.
        seconds: for all of them.
        first: URIs of the first few.
        strategy: that ordered them.
    """

    generation: str
    ids: tuple[str, ...]
    gains: NDArray[np.float64]
    spaces: dict[str, int]
    seconds: float
    first: tuple[str, ...]
    strategy: str

    def lines(self) -> list[str]:
        """For a terminal."""
        if not self.ids:
            return [f"nothing to do: every item is embedded by {self.generation}."]
        by = ", ".join(f"{count} by {name}" for name, count in self.spaces.items())
        lines = [
            f"{len(self.ids)} items to embed with {self.generation}, about {self.seconds:.0f} s; found now: {by}.",
            f"order: {self.strategy}. Share of the expected gain that comes with the first …",
        ]
        finite = np.where(
            np.isfinite(self.gains), self.gains, np.nanmax(np.append(self.gains[np.isfinite(self.gains)], 0))
        )
        total = max(float(finite.sum()), 1e-12)
        for share in (0.1, 0.25, 0.5):
            number = max(1, round(share * len(self.ids)))
            lines.append(
                f"  {share:4.0%} ({number} items, {self.seconds * number / len(self.ids):.0f} s): "
                f"{finite[:number].sum() / total:.0%}"
            )
        return [*lines, "first of all:", *(f"  {uri}" for uri in self.first)]


class Refreshing:
    """Plans and runs backfills of one catalogue, with the generation that answers."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering

    def plan(self, strategy: str = "gain") -> Plan:
        """What a backfill would do; nothing is done.

        Raises:
            ConfigError: the strategy is unknown.
        """
        generation = self.answering.generation()
        store, own = self.answering.gallery.store, space_of(generation)
        left = dict.fromkeys(store.missing(own.id) if own in store.spaces() else [item.id for item in store.items()])
        rate = self._seconds(list(left)[:TIMED], generation)
        pulled = Judging(self.answering).pulls(generation)
        found: list[tuple[float, str]] = []
        spaces: dict[str, int] = {}
        for space in self.answering.routes.order(generation.name, store.spaces()):
            if space == own or not left:
                continue
            names, vectors = store.vectors(space.id, list(left))
            for name in names:
                del left[name]
            if names:
                spaces[space.generation] = len(names)
                found += self._ordered(strategy, names, vectors, space, generation, pulled, rate)
        if left:
            spaces["nothing"] = len(left)
        ranked = [(float("inf"), name) for name in left] + _merged(found, strategy)
        first = [item.uri for item in store.items([name for _, name in ranked[:SHOWN]])]
        return Plan(
            generation.name,
            tuple(name for _, name in ranked),
            np.array([gain for gain, _ in ranked]),
            spaces,
            rate * len(ranked),
            tuple(first),
            strategy,
        )

    def run(self, limits: Limits, strategy: str = "gain") -> Backfilled:
        """Embed what the plan says, in its order; see `Backfill.run`."""
        generation = self.answering.generation()
        work = Backfill(
            self.answering.gallery.store,
            space_of(generation),
            generation.folder,
            self.answering.options.images,
            self.journal(generation),
        )
        return work.run(self.plan(strategy).ids, limits)

    def journal(self, generation: Generation) -> Journal:
        """Of backfills with a generation."""
        return Journal(self.answering.folder / "backfill" / f"{generation.name}.jsonl")

    def _ordered(
        self,
        strategy: str,
        names: list[str],
        vectors: NDArray[np.float32],
        space: Space,
        generation: Generation,
        pulled: Mapping[str, float],
        rate: float,
    ) -> list[tuple[float, str]]:
        """Ids of items of one space in order, each with its gain."""
        items = {item.id: item for item in self.answering.gallery.store.items(names)}
        waiting = Waiting(
            [items[name].label if name in items else None for name in names],
            self._errors(vectors, space, generation),
            self._pulls(names, pulled),
            np.full(len(names), rate),
        )
        positions = order(strategy, waiting)
        gain = gains(waiting)
        return [(float(gain[position]), names[position]) for position in positions]

    def _pulls(self, names: list[str], pulled: Mapping[str, float]) -> NDArray[np.float64]:
        """Of the probe pictures on items, more for what live queries find often; all the same without any."""
        counts = self.answering.log.counts()
        return np.array([pulled.get(name, 0.0 if pulled else 1.0) * (1 + np.log1p(counts[name])) for name in names])

    def _errors(self, vectors: NDArray[np.float32], space: Space, generation: Generation) -> NDArray[np.float64]:
        """What the bridge from a space is expected to leave of the drift, from pictures that both generations saw."""
        embedded = self.answering.lineage.embedded(generation)
        if generation.parent is None or "train.old" not in embedded:
            return np.ones(len(vectors))
        routes = self.answering.routes
        old, new = embedded["train.old"].numpy(), embedded["train.new"].numpy()
        errors = 1 - np.vecdot(routes.bridge(generation.parent, generation.name)(old), new)
        near = routes.bridge(space.generation, generation.parent)(vectors)
        return expected_errors(near, old, errors.astype(np.float64))

    def _seconds(self, names: list[str], generation: Generation) -> float:
        """For one picture, measured on a few that can be had; 0 where none can."""
        samples = [sample_of(item) for item in self.answering.gallery.store.items(names)]
        self.answering.embedder(generation)
        began = time.perf_counter()
        try:
            embedded = self.answering.embed(generation, samples) if samples else None
        except DataError:
            return 0.0
        return 0.0 if embedded is None else (time.perf_counter() - began) / max(1, len(embedded.indices))


def _merged(found: list[tuple[float, str]], strategy: str) -> list[tuple[float, str]]:
    """Items of several spaces in one order: by gain where it counts, else space after space."""
    return sorted(found, key=lambda each: -each[0]) if strategy == "gain" else found
