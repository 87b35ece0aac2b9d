"""What adding images to the gallery of a catalogue needs, and what follows it."""

from __future__ import annotations

from functools import partial

from scrubjay.gallery.ingest import Ingest
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.generation import Generation
from scrubjay.promotion.calibrate import calibrate
from scrubjay.workspace.workspace import Workspace

MAINTAINED = 100
"""The store is maintained after a change of one in so many of its items, and calibrations are fitted again."""


def ingest(workspace: Workspace) -> Ingest:
    """Adds images with the vectors of the generation that answers queries.

    Raises:
        CatalogueError: nothing was learned yet.
    """
    generation = workspace.serving_generation()
    encoder = workspace.encoder(generation)
    strict = workspace.options.images.on_error == "raise"
    features = workspace.feature_writer(generation)
    learned = partial(workspace.learned_features, generation, encoder.era)
    return Ingest(workspace.gallery, space_of(generation), encoder, strict, features, learned)


def after_adding(workspace: Workspace, added: int) -> None:
    """As `after_writing_vectors`, but a few items that join a large gallery leave its calibrations as they are.

    Args:
        workspace: the open catalogue.
        added: number of items that were added.
    """
    count = workspace.gallery.count()
    if MAINTAINED * added >= count or any(
        each.items is None or MAINTAINED * abs(count - each.items) >= count
        for each in map(workspace.calibrations, _answering(workspace))
    ):
        after_writing_vectors(workspace, added)


def after_writing_vectors(workspace: Workspace, changed: int) -> None:
    """Maintain the store, and calibrate both this and the previous generation, so that a rollback takes no time."""
    if MAINTAINED * changed >= workspace.gallery.count():
        workspace.gallery.store.maintain()
    for generation in _answering(workspace):
        calibrate(workspace, generation)


def _answering(workspace: Workspace) -> list[Generation]:
    """The generation that answers queries, and the one that a rollback leads to."""
    serving = workspace.serving.read()
    return [each for each in workspace.lineage.generations() if each.name in (serving.generation, serving.previous)]
