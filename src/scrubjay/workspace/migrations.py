"""Migrates catalogues of older formats, by numbered steps. Each step can be interrupted and repeated.

1 → 2   serving.json names the generation that answers queries; before, it was the newest that had embedded all items
2 → 3   the index of the probe set calls images "images"; before, it used another word
3 → 4   catalogue.json says which trunk features its generations take; before, all took the last feature map
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scrubjay.config import read_json
from scrubjay.errors import CatalogueError
from scrubjay.generations.lineage import Lineage
from scrubjay.generations.serving import ServingFile
from scrubjay.io.atomic import write_json
from scrubjay.io.locking import locked
from scrubjay.stores import Store

FORMAT = 4


def migrate(folder: Path, values: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """Migrate a catalogue to the current format.

    Args:
        folder: folder of the catalogue.
        values: content of its `catalogue.json`.
        store: store of its gallery.

    Returns:
        The content of `catalogue.json` after the migration.

    Raises:
        CatalogueError: the catalogue is of a newer format, or another process is writing to it.
    """
    values = dict(values)
    version = values.get("format", 1)
    if not isinstance(version, int) or not 1 <= version <= FORMAT:
        raise CatalogueError(
            f"{folder}: a catalogue of format {version}; this version of scrubjay reads 1 to {FORMAT}: upgrade it."
        )
    if version < FORMAT:
        with locked(folder):
            for number in range(version, FORMAT):
                values = {**STEPS[number](folder, values, store), "format": number + 1}
                write_json(folder / "catalogue.json", values)
    return values


def _create_serving_file(folder: Path, values: dict[str, Any], store: Store) -> dict[str, Any]:
    """1 → 2: name the serving generation in serving.json."""
    file = ServingFile(folder)
    newest = Lineage(folder / "generations").newest
    if file.read().generation is not None or newest is None:
        return values
    complete = []
    if store.count():
        complete = [space.generation for space in store.spaces() if store.coverage(space)[1] == 0]
    file.change("promote", complete[-1] if complete else newest.name, file.read().revision)
    return values


def _rename_probe_images(folder: Path, values: dict[str, Any], _: Store) -> dict[str, Any]:
    """2 → 3: rename the key of the images in the index of the probe set."""
    for path in folder.glob("probe/g*/index.json"):
        index = read_json(path)
        if "pictures" in index:
            kind = "images" if index["kind"] == "pictures" else index["kind"]
            write_json(path, {"kind": kind, "images": index["pictures"]})
    return values


def _name_features(_: Path, values: dict[str, Any], __: Store) -> dict[str, Any]:
    """3 → 4: name the trunk features that were the only ones, since new catalogues take others by default."""
    return {**values, "network": {"features": "last", **values.get("network", {})}}


Step = Callable[[Path, dict[str, Any], Store], dict[str, Any]]
"""Folder of a catalogue, content of its `catalogue.json`, and its store → the content after the step."""

STEPS: Mapping[int, Step] = {1: _create_serving_file, 2: _rename_probe_images, 3: _name_features}
