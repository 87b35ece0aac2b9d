"""A catalogue that starts with what a run has learned."""

from __future__ import annotations

import shutil
from pathlib import Path

from scrubjay.errors import CatalogueError, ConfigError, StorageError
from scrubjay.generations.lineage import Lineage
from scrubjay.models.embedding import space_fingerprint
from scrubjay.workspace.options import CatalogueOptions


def take_over(generations: Path, target: Path, options: CatalogueOptions) -> None:
    """Copy the generations of a run, if they are of the same network and of images prepared alike.

    Raises:
        CatalogueError: there is no finished run.
        ConfigError: its network or its images are others.
        StorageError: the disk is full; nothing is left behind.
    """
    lineage = Lineage(generations)
    newest = lineage.newest
    if newest is None:
        raise CatalogueError(f"{generations.parent}: no finished run here; give the --out of a `scrubjay run`.")
    network = lineage.network(newest)
    same_space = space_fingerprint(network.embedder, options.images) == newest.fingerprint
    if network.options != options.network or not same_space:
        raise ConfigError(f"{generations.parent}: has another network or image size; leave network and images as is.")
    try:
        shutil.copytree(generations, target)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise StorageError(
            f"{target}: could not be written ({error.strerror or 'copy failed'}): free some space."
        ) from None
