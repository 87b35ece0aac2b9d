"""What adding images to the gallery of a catalogue needs, and what follows it."""

from __future__ import annotations

from functools import partial

from scrubjay.gallery.ingest import Ingest
from scrubjay.generations.bridge_paths import space_of
from scrubjay.promotion.calibrate import calibrate
from scrubjay.workspace.workspace import Workspace

MAINTAINED = 100
"""The store is maintained after a change of one in so many of its items."""


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


def after_writing_vectors(workspace: Workspace, changed: int) -> None:
    """Maintain the store, and calibrate both this and the previous generation, so that a rollback takes no time."""
    if MAINTAINED * changed >= workspace.gallery.count():
        workspace.gallery.store.maintain()
    serving = workspace.serving.read()
    for generation in workspace.lineage.generations():
        if generation.name in (serving.generation, serving.previous):
            calibrate(workspace, generation)
