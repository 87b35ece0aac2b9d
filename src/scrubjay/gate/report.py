"""The gate's report as typed values. `scrubjay.report.gate_page` renders it and decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scrubjay.evaluation.retrieval import RetrievalScores
from scrubjay.generations.generation import BridgeRecord


@dataclass(frozen=True, slots=True)
class Figures:
    """Retrieval figures of some probe images, shares from 0 to 1.

    Attributes:
        recall_at_1: share of the images whose best item is of their class.
        map_at_r: mAP@R.
    """

    recall_at_1: float
    map_at_r: float

    @classmethod
    def of(cls, scores: RetrievalScores) -> Figures | None:
        """The two figures of an evaluation; None where no query has a relevant item."""
        return cls(scores.recall[1], scores.map_at_r) if scores.queries else None


@dataclass(frozen=True, slots=True)
class Change:
    """Figures of a group of probe images by the serving generation and by the candidate.

    Attributes:
        queries: number of probe images with a relevant item.
        classes: number of their classes.
        before: by the serving generation.
        after: by the candidate.
    """

    queries: int
    classes: int
    before: Figures
    after: Figures


@dataclass(frozen=True, slots=True)
class Check:
    """One limit of the gate, what was measured, and what the number of probe images allows to conclude.

    Attributes:
        name: name of the option: old_retention, negative_flips or new_gain.
        measured: the figure; None where no probe image could be judged.
        bound: the best value that is consistent with the probe images, at `confidence`: an upper bound where the
            limit is a minimum, a lower bound where it is a maximum. The check fails when even this misses the limit.
        limit: the value of the option.
        kind: whether the limit is a minimum or a maximum.
        passed: False when the evidence says that the limit is missed; None where nothing could be measured.
        images: number of probe images that were judged.
        images_needed: number of probe images that would show, without a single loss, that the limit is kept; None
            where no number does.
    """

    name: Literal["old_retention", "negative_flips", "new_gain"]
    measured: float | None
    bound: float | None
    limit: float
    kind: Literal["minimum", "maximum"]
    passed: bool | None
    images: int
    images_needed: int | None


@dataclass(frozen=True, slots=True)
class FirstItem:
    """The best item of a probe image: URI, name of its class, and calibrated probability of a match."""

    uri: str
    label: str | None
    match: float


@dataclass(frozen=True, slots=True)
class Flip:
    """A probe image of an old class whose best item is right for the serving generation and wrong for the candidate.

    Attributes:
        image: path of the probe image.
        label: name of its class.
        before: its best item by the serving generation.
        after: its best item by the candidate.
    """

    image: str
    label: str
    before: FirstItem
    after: FirstItem


@dataclass(frozen=True, slots=True)
class ReembeddedSample:
    """A sample of the gallery, searched by its stored vectors and by vectors of the candidate.

    Attributes:
        items: number of items in the sample.
        stored: figures with the stored vectors; None where nothing could be measured.
        reindexed: figures with the sample re-embedded by the candidate.
    """

    items: int
    stored: Figures | None
    reindexed: Figures | None


@dataclass(frozen=True, slots=True)
class BackfillCost:
    """What re-embedding the gallery with the candidate would cost, from the throughput on the sample.

    Attributes:
        items: number of items without a vector of the candidate.
        images_per_second: measured throughput.
        seconds: for all of these items.
    """

    items: int
    images_per_second: float
    seconds: float


@dataclass(frozen=True, slots=True)
class GateReport:
    """What would change if a candidate answered queries, and whether it may.

    Attributes:
        candidate: name of the generation that was judged.
        serving: name of the generation that answers now; None where none does.
        reasons: why the candidate must not answer; empty if it may.
        note: why nothing was measured, or None.
        checks: the limits of the gate.
        groups: figures of the probe images of old, new and all classes; a group that could not be measured is missing.
        flips: the negative flips.
        unjudged: names of old classes without a probe image.
        probe_images: number of probe images.
        probe_kind: what was kept of them.
        sample: a sample of the gallery as stored and re-embedded; None where no image of the gallery can be read.
        backfill: cost of re-embedding the gallery; None where no image of the gallery can be read.
        bridges: the candidate's bridges.
        created: time, ISO 8601, UTC.
    """

    candidate: str
    serving: str | None
    reasons: tuple[str, ...] = ()
    note: str | None = None
    checks: tuple[Check, ...] = ()
    groups: Mapping[str, Change] | None = None
    flips: tuple[Flip, ...] = ()
    unjudged: tuple[str, ...] = ()
    probe_images: int = 0
    probe_kind: Literal["images", "embeddings"] = "images"
    sample: ReembeddedSample | None = None
    backfill: BackfillCost | None = None
    bridges: Mapping[str, BridgeRecord] | None = None
    created: str = ""

    @property
    def passed(self) -> bool:
        """Whether the candidate may answer queries."""
        return not self.reasons
