"""Starts a catalogue with the generations of a finished run."""

from __future__ import annotations

import shutil
from pathlib import Path

from scrubjay.errors import CatalogueError, ConfigError, StorageError
from scrubjay.generations.lineage import Lineage
from scrubjay.models.embedder import NetworkOptions
from scrubjay.models.embedding import space_fingerprint
from scrubjay.workspace.options import CatalogueOptions


def import_run(generations: Path, target: Path, options: CatalogueOptions) -> NetworkOptions:
    """Copy the generations of a run, if it has the same network and prepares images in the same way.

    Args:
        generations: folder `generations` of the run.
        target: folder that the generations are copied to.
        options: options of the catalogue.

    Returns:
        The options of the network, with the origin of weights that are not timm's own.

    Raises:
        CatalogueError: there is no finished run.
        ConfigError: the run has another network or other image options.
        StorageError: the disk is full; nothing is left behind.
    """
    lineage = Lineage(generations)
    newest = lineage.newest
    if newest is None:
        raise CatalogueError(f"{generations.parent}: no finished run here; give the --out of a `scrubjay run`.")
    network = lineage.network(newest)
    same_space = space_fingerprint(network.embedder, options.images) == newest.fingerprint
    # Filled in when the network was created; the space tells whether such weights are the same.
    filled = {"backbone": "", "weights": None, "sha256": None, "origin": None} if network.options.origin else {}
    same_options = network.options.model_copy(update=filled) == options.network.model_copy(update=filled)
    if not (same_options and same_space):
        raise ConfigError(
            f"{generations.parent}: has another network or image size; do not set network or images beside --from."
        )
    try:
        shutil.copytree(generations, target)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise StorageError(
            f"{target}: could not be written ({error.strerror or 'copy failed'}): free some space."
        ) from None
    return network.options
