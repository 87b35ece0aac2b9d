"""The gate's report on a candidate: the gallery as both generations find it, and what re-embedding it would change."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from scrubjay.errors import CatalogueError
from scrubjay.gallery.features import embedded_sample
from scrubjay.gallery.items import EMBEDDED
from scrubjay.gate.decision import GateOptions, decide
from scrubjay.gate.probe_set import ProbeQueries
from scrubjay.gate.report import BackfillCost, Figures, GateReport, ReembeddedSample
from scrubjay.gate.view import GallerySlice, GalleryView
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.generation import Generation
from scrubjay.promotion.gallery_view import calibrated_view, gallery_slices, probe_queries, slice_of_items
from scrubjay.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two generations that a gate compares.

    Attributes:
        generation: the generation.
        queries: the probe images as its queries.
        slices: the gallery as its queries find it.
    """

    generation: Generation
    queries: ProbeQueries
    slices: Sequence[GallerySlice]


def gate_report(
    workspace: Workspace, candidate: Generation, slices: Sequence[GallerySlice], options: GateOptions
) -> GateReport:
    """Measure what would change if a generation answered queries.

    Args:
        workspace: the open catalogue.
        candidate: the generation to judge.
        slices: the gallery as queries of the candidate find it.
        options: the limits.

    Raises:
        CatalogueError: the candidate answers already.
    """
    if workspace.serving.read().generation is None:  # the serving file was lost
        return GateReport(candidate.name, None, note="no generation answers yet", created=_now())
    serving = workspace.serving_generation()
    if candidate.name == serving.name:
        raise CatalogueError(f"{workspace.folder}: {candidate.name} answers already.")
    before = Side(serving, probe_queries(workspace, serving, serving, candidate), gallery_slices(workspace, serving))
    after = Side(candidate, probe_queries(workspace, candidate, serving, candidate), slices)
    probes = after.queries.probes
    report = GateReport(
        candidate.name,
        serving.name,
        probe_images=len(after.queries.centre),
        probe_kind="embeddings" if probes and probes[0].sample is None else "images",
        bridges=candidate.info.bridges,
        created=_now(),
        **_sampled(workspace, after),
    )
    if not workspace.gallery.count():
        return replace(report, note="the gallery is empty")
    if not (before.slices or after.slices):
        return replace(report, note="no item of the gallery has a vector yet")
    if not probes:
        reason = "no probe images: none were held out when its classes were learned, or probe.images is 0"
        return replace(report, reasons=(reason,))
    seen_before, seen_after = (
        compared_view(workspace, side, candidate, serving).only(side.queries.centre) for side in (before, after)
    )
    decision = decide(serving.classes, seen_before, seen_after, options)
    return replace(
        report,
        reasons=decision.reasons,
        checks=decision.checks,
        groups=decision.groups,
        flips=decision.flips,
        unjudged=decision.unjudged,
    )


def compared_view(workspace: Workspace, side: Side, candidate: Generation, serving: Generation) -> GalleryView:
    """The gallery as one side finds it, with the training images of classes that the gallery does not hold yet."""
    held = {label for part in side.slices for label in part.labels if label is not None}
    added = _added_classes(workspace, side.generation, candidate, serving, held)
    return calibrated_view(workspace, side.generation, side.queries, [*side.slices, *added])


def _added_classes(
    workspace: Workspace, generation: Generation, candidate: Generation, serving: Generation, held: Collection[str]
) -> list[GallerySlice]:
    """Training images of classes that only the candidate's line has learned, as if a generation had embedded them."""
    lineage, slices = workspace.lineage, []
    known = set(lineage.line(serving.name))
    for name in reversed(lineage.line(candidate.name)):
        if name in known:
            continue
        learner = lineage.get(name)
        train = lineage.embeddings(learner).train
        if train is None:
            continue
        source, vectors = (name, train.new) if generation.name == candidate.name else (learner.parent, train.old)
        if source is None or vectors is None:
            continue
        labels = [learner.classes[label] for label in train.labels.tolist()]
        rows = [row for row, label in enumerate(labels) if label not in held]
        if rows:
            slices.append(
                GallerySlice(
                    space_of(generation).id,
                    [f"{name}/{row}" for row in rows],
                    [train.paths[row] for row in rows],
                    [labels[row] for row in rows],
                    workspace.bridge_paths.bridge(source, generation.name)(vectors[rows]),
                )
            )
    return slices


def _sampled(workspace: Workspace, side: Side) -> dict[str, Any]:
    """What it costs to re-embed items with the candidate, and what that gains, on a sample of the gallery."""
    began = time.perf_counter()
    kept, vectors = embedded_sample(workspace.gallery.store, workspace.encoder(side.generation), EMBEDDED)
    if not kept:
        return {}
    rate = len(kept) / max(time.perf_counter() - began, 1e-9)
    space = space_of(side.generation)
    waiting = workspace.gallery.store.coverage(space)[1]
    ids = {item.id for item in kept}
    stored = [part for part in (part.only(ids) for part in side.slices) if part.ids]
    reembedded = [slice_of_items(space.id, kept, vectors)]
    figures = [_figures(workspace, side, slices) for slices in (stored, reembedded)]
    return {
        "backfill": BackfillCost(waiting, round(rate, 1), round(waiting / rate, 1)),
        "sample": ReembeddedSample(len(kept), *figures),
    }


def _figures(workspace: Workspace, side: Side, slices: Sequence[GallerySlice]) -> Figures | None:
    if not side.queries.probes or not slices:
        return None
    view = calibrated_view(workspace, side.generation, side.queries, slices)
    return Figures.of(view.only(side.queries.centre).evaluate())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
