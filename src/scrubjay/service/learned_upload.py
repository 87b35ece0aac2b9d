"""What becomes of an upload that was learned: its images move to the gallery, and what names their paths follows."""

from __future__ import annotations

from scrubjay.catalogue import Catalogue
from scrubjay.generations.generation import Generation
from scrubjay.service.uploads import Upload


def generation_of(catalogue: Catalogue, upload: Upload) -> Generation | None:
    """The generation that was learned from an upload; None where there is none yet."""
    inside = f"{upload.images.absolute()}/"
    for generation in reversed(catalogue.lineage.generations()):
        train = catalogue.lineage.embeddings(generation).train
        if train is not None and any(path.startswith(inside) for path in train.paths):
            return generation
    return None


def add_upload(catalogue: Catalogue, generation: Generation, upload: Upload) -> int:
    """Add the images of an upload to the gallery; returns the number of items."""
    return catalogue.add([upload.images]).items
