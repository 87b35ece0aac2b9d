"""What it would cost to train the backbone in the first session of a catalogue."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from scrubjay.data.photos import read_photos
from scrubjay.errors import CatalogueError
from scrubjay.learning.session import HELD_OUT
from scrubjay.models.embedder import Embedder
from scrubjay.workspace.workspace import Workspace

MEASURED = 16
"""Number of images in the forward pass that is measured."""
BACKWARD = 2.0
"""Duration of a backward pass relative to the forward pass: each product becomes two of the same size."""


def adaptation_seconds(workspace: Workspace, photos: Path) -> float:
    """Estimated seconds of training the backbone on images, from the duration of one forward pass on the CPU.

    Args:
        workspace: the open catalogue.
        photos: folder or table of the first session.

    Raises:
        CatalogueError: a later session would not train the backbone.
        DataError: the images are not as needed.
    """
    if workspace.lineage.newest is not None:
        raise CatalogueError(
            f"{workspace.folder}: has learned already, and only a first session trains the backbone: use a new "
            "catalogue for --adapt, or leave the option out."
        )
    options = workspace.options
    count = sum(sample.split == "train" for sample in read_photos(photos, HELD_OUT).samples)
    embedder = Embedder(options.network).eval()
    noise = torch.zeros(MEASURED, 3, options.images.size, options.images.size, dtype=torch.uint8)
    with torch.inference_mode():
        embedder.features(noise)  # the first pass also allocates memory
        began = time.perf_counter()
        embedder.features(noise)
    seconds = (time.perf_counter() - began) / MEASURED
    return options.training.epochs * count * seconds * (1 + BACKWARD)
