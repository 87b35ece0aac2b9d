"""Fits the calibrations of a generation's queries to the probe images, and stores them with the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

from scrubjay.gate.view import GallerySlice, GalleryView
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.generation import Generation
from scrubjay.promotion.gallery_view import calibrated_view, gallery_slices, probe_queries
from scrubjay.promotion.left_out import fit_match_model
from scrubjay.workspace.calibrations import Calibrations
from scrubjay.workspace.workspace import Workspace


def calibrate(workspace: Workspace, generation: Generation, slices: Sequence[GallerySlice] | None = None) -> None:
    """Fit what the scores of a generation's queries mean in every space of the gallery, and store it.

    Nothing is stored where there are no probe images, or no item that queries of the generation find. The match model
    of a generation that was learned in closed form does not depend on the gallery; see `fit_match_model`.

    Args:
        workspace: the open catalogue.
        generation: the generation that queries come from.
        slices: the gallery as its queries find it, where that has been read already.
    """
    fit_match_model(workspace, generation)
    queries = probe_queries(workspace, generation)
    gallery = list(gallery_slices(workspace, generation) if slices is None else slices)
    if not queries.probes or not gallery:
        return
    slices = list(gallery)
    if all(part.space != space_of(generation).id for part in gallery):
        slices += _training_slice(workspace, generation)
    view = calibrated_view(workspace, generation, queries, slices)
    spaces = {part.space: calibration for part, calibration in zip(view.slices, view.calibrations, strict=True)}
    number = len(gallery)
    searched = GalleryView(queries.probes, gallery, view.cosines[:number], view.calibrations[:number])
    no_match_scores, match_scores = searched.only(queries.centre).best_match_scores()
    direct = tuple(name for name in dict.fromkeys(part.space for part in gallery) if name in view.direct)
    calibrations = Calibrations(spaces, direct, no_match_scores, match_scores, workspace.gallery.count())
    calibrations.save(workspace.calibrations_path(generation))


def _training_slice(workspace: Workspace, generation: Generation) -> list[GallerySlice]:
    """The training images of a generation, which stand for its space while the gallery holds no vector of it."""
    train = workspace.lineage.embeddings(generation).train
    if train is None:
        return []
    ids = [f"{generation.name}/{row}" for row in range(len(train.labels))]
    labels = [generation.classes[label] for label in train.labels.tolist()]
    return [GallerySlice(space_of(generation).id, ids, ids, labels, train.new)]
