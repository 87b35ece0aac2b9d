"""Builds the view of a gallery for one generation: probe images as queries, items by space, calibrated scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import CheckpointError
from scrubjay.gallery.calibration import ScoredPairs, fit_calibrations
from scrubjay.gallery.items import ITEMS
from scrubjay.gate.probe_set import ProbeQueries
from scrubjay.gate.view import IDENTITY, GallerySlice, GalleryView
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.generation import Generation
from scrubjay.stores import Item
from scrubjay.types import Sample
from scrubjay.workspace.workspace import Workspace


def probe_queries(workspace: Workspace, generation: Generation, *ends: Generation) -> ProbeQueries:
    """The probe images as queries of a generation.

    Args:
        workspace: the open catalogue.
        generation: embeds the images.
        ends: the probe images of the classes on the lines that end in these generations are taken; by default on the
            line of `generation`.

    Raises:
        CheckpointError: a probe image cannot be read.
    """
    lines = [workspace.lineage.line(end.name) for end in ends or (generation,)]
    names = dict.fromkeys(name for line in lines for name in reversed(line))

    def embed(samples: Sequence[Sample]) -> NDArray[np.float32]:
        if generation.info.statistics:  # the next generation will have the same trunk
            encoder = workspace.encoder(generation)
            return encoder.project(workspace.probe_features.of(encoder, samples))
        embedded = workspace.embed(generation, samples)
        if embedded.failures:
            path, reason = embedded.failures[0]
            raise CheckpointError(f"{path}: a probe image cannot be read ({reason}): restore it from a copy.")
        return embedded.vectors

    def carry(name: str, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return workspace.bridge_paths.bridge(name, generation.name)(vectors)

    return workspace.probe_set.queries(names, generation.fingerprint, embed, carry)


def gallery_slices(
    workspace: Workspace, generation: Generation, items: Iterable[Item] | None = None
) -> list[GallerySlice]:
    """Items as queries of a generation find them: each in the nearest space that holds a vector of it.

    Args:
        workspace: the open catalogue.
        generation: the generation that queries come from.
        items: the items; by default a random sample of the gallery.
    """
    store = workspace.gallery.store
    remaining = {item.id: item for item in (islice(store.items(), ITEMS) if items is None else items)}
    slices = []
    for space in workspace.searched_spaces(generation):
        if not remaining:
            break
        ids, vectors = store.vectors(space.id, list(remaining))
        if ids:
            slices.append(slice_of_items(space.id, [remaining.pop(name) for name in ids], vectors))
    return slices


def slice_of_items(space: str, items: Sequence[Item], vectors: NDArray[np.float32]) -> GallerySlice:
    """Items with their vectors in one space, in the same order."""
    return GallerySlice(
        space, [item.id for item in items], [item.uri for item in items], [item.label for item in items], vectors
    )


def calibrated_view(
    workspace: Workspace, generation: Generation, queries: ProbeQueries, slices: Sequence[GallerySlice]
) -> GalleryView:
    """Probe images over slices of the gallery, with calibrations that are fitted to them over all spaces together.

    Args:
        workspace: the open catalogue.
        generation: the generation that the queries come from.
        queries: the probe images; all crops take part in the fit.
        slices: slices of the gallery.
    """
    spaces = {space.id: space for space in (*workspace.gallery.store.spaces(), space_of(generation))}
    blocks: list[NDArray[np.float32]] = [np.empty((0, 0), np.float32)] * len(slices)
    order = list(dict.fromkeys(part.space for part in slices))
    direct, pairs = set(), []
    for name in order:
        rows = [row for row, part in enumerate(slices) if part.space == name]
        cosines, is_direct = _cosines(
            workspace, generation, queries, spaces[name].generation, [slices[row] for row in rows]
        )
        for row, block in zip(rows, cosines, strict=True):
            blocks[row] = block
        if is_direct:
            direct.add(name)
        view = _uncalibrated(queries, [slices[row] for row in rows], cosines)
        pairs.append(ScoredPairs(view.scores, view.matches(), view.counted()))
    fitted = dict(zip(order, fit_calibrations(pairs), strict=True))
    return GalleryView(queries.probes, slices, blocks, [fitted[part.space] for part in slices], frozenset(direct))


def _cosines(
    workspace: Workspace, generation: Generation, queries: ProbeQueries, target: str, slices: Sequence[GallerySlice]
) -> tuple[list[NDArray[np.float32]], bool]:
    """Cosines of the queries with the items of one space, and whether the queries entered it without the bridge.

    Every bridge is judged when it is fitted, but a chain of several is judged only here: queries enter the space as
    they are where the probe images retrieve more that way.
    """
    bridge = workspace.bridge_paths.bridge(generation.name, target)
    bridged = [bridge(queries.vectors) @ part.vectors.T for part in slices]
    comparable = all(part.vectors.shape[1] == generation.dim for part in slices)
    if bridge.kind == "identity" or not comparable or not all(probe.sample for probe in queries.probes):
        return bridged, False
    direct = [queries.vectors @ part.vectors.T for part in slices]
    if _map_at_r(queries, slices, direct) > _map_at_r(queries, slices, bridged):
        return direct, target != generation.name
    return bridged, False


def _map_at_r(queries: ProbeQueries, slices: Sequence[GallerySlice], cosines: Sequence[NDArray[np.float32]]) -> float:
    scores = _uncalibrated(queries, slices, cosines).evaluate()
    return scores.map_at_r if scores.queries else 0.0


def _uncalibrated(
    queries: ProbeQueries, slices: Sequence[GallerySlice], cosines: Sequence[NDArray[np.float32]]
) -> GalleryView:
    return GalleryView(queries.probes, slices, cosines, [IDENTITY] * len(slices))
