"""The backfill of a catalogue: what to embed first, what it would cost and bring, and doing it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrubjay.backfill import Backfill, Backfilled, Limits
from scrubjay.backfill.priority import Waiting, expected_errors, gains, order
from scrubjay.errors import DataError
from scrubjay.gallery.ingest import sample_of
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.lineage import Generation
from scrubjay.io.journal import Journal
from scrubjay.promotion.gate_report import Judging
from scrubjay.search.searcher import Answering
from scrubjay.stores import Space

TIMED = 32
"""Images that are embedded to see what one takes."""
SHOWN = 5
BLOCK = 4096
"""Vectors that are read at a time."""


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
        found = self._found(generation, left)
        names = [name for held in found.values() for name in held]
        labels = {item.id: item.label for item in store.items()} if strategy == "label" else {}
        waiting = Waiting(
            [labels.get(name) for name in names],
            self._errors(found, generation) if strategy == "uncertainty" else np.ones(len(names)),
            self._pulls(names, generation),
            np.full(len(names), rate),
        )
        positions, gain = order(strategy, waiting), gains(waiting)
        ranked = [*left, *(names[position] for position in positions)]
        return Plan(
            generation.name,
            tuple(ranked),
            np.concatenate([np.full(len(left), np.inf), gain[positions]]),
            {space.generation: len(held) for space, held in found.items()} | ({"nothing": len(left)} if left else {}),
            rate * len(ranked),
            tuple(item.uri for item in store.items(ranked[:SHOWN])),
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

    def _found(self, generation: Generation, left: dict[str, None]) -> dict[Space, list[str]]:
        """Items that older vectors find, by space; they are taken from `left`, which keeps those without any."""
        store, own = self.answering.gallery.store, space_of(generation)
        found = {}
        for space in self.answering.routes.order(generation.name, store.spaces()):
            if space != own and left:
                missing = set(store.missing(space.id))
                found[space] = [name for name in left if name not in missing]
                for name in found[space]:
                    del left[name]
        return {space: names for space, names in found.items() if names}

    def _pulls(self, names: list[str], generation: Generation) -> NDArray[np.float64]:
        """Of the probe images on items, more for what live queries find often; all the same without any."""
        pulled, counts = Judging(self.answering).pulls(generation), self.answering.log.counts()
        return np.array([pulled.get(name, 0.0 if pulled else 1.0) * (1 + np.log1p(counts[name])) for name in names])

    def _errors(self, found: Mapping[Space, list[str]], generation: Generation) -> NDArray[np.float64]:
        """What bridges are expected to leave of the drift of items, from images that both generations saw."""
        embedded = self.answering.lineage.embedded(generation)
        if generation.parent is None or "train.old" not in embedded:
            return np.ones(sum(map(len, found.values())))
        bridge = self.answering.routes.bridge
        old, new = embedded["train.old"].numpy(), embedded["train.new"].numpy()
        known = (1 - np.vecdot(bridge(generation.parent, generation.name)(old), new)).astype(np.float64)
        errors = [np.empty(0)]
        for space, names in found.items():
            carry = bridge(space.generation, generation.parent)
            for start in range(0, len(names), BLOCK):
                _, vectors = self.answering.gallery.store.vectors(space.id, names[start : start + BLOCK])
                errors.append(expected_errors(carry(vectors), old, known))
        return np.concatenate(errors)

    def _seconds(self, names: list[str], generation: Generation) -> float:
        """For one image, measured on a few that can be had; 0 where none can."""
        samples = [sample_of(item) for item in self.answering.gallery.store.items(names)]
        self.answering.embedder(generation)
        began = time.perf_counter()
        try:
            embedded = self.answering.embed(generation, samples) if samples else None
        except DataError:
            return 0.0
        return 0.0 if embedded is None else (time.perf_counter() - began) / max(1, len(embedded.indices))
