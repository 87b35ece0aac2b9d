"""Catalogues of older versions, brought up to date: numbered steps, each of which can be cut short and done again.

1 → 2   which generation answers is written down in serving.json; it was the newest that had embedded all items
2 → 3   the index of the probe set says "images" where it said "pictures"
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

FORMAT = 3


def migrated(folder: Path, values: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """What `catalogue.json` holds, after the steps that its format lacks were taken.

    Raises:
        CatalogueError: the catalogue is of a newer version, or another process is at work in it.
    """
    values = dict(values)
    version = values.get("format", 1)
    if not isinstance(version, int) or not 1 <= version <= FORMAT:
        raise CatalogueError(
            f"{folder}: a catalogue of format {version}, this version reads {FORMAT}: upgrade scrubjay."
        )
    if version < FORMAT:
        with locked(folder):
            for number in range(version, FORMAT):
                STEPS[number](folder, store)
                values["format"] = number + 1
                write_json(folder / "catalogue.json", values)
    return values


def _write_down_what_answers(folder: Path, store: Store) -> None:
    file = ServingFile(folder)
    newest = Lineage(folder / "generations").newest
    if file.read().generation is not None or newest is None:
        return
    complete = [space.generation for space in store.spaces() if store.coverage(space)[1] == 0] if store.count() else []
    file.turn("promote", complete[-1] if complete else newest.name, file.read().revision)


def _name_probe_images(folder: Path, _: Store) -> None:
    for path in folder.glob("probe/g*/index.json"):
        index = read_json(path)
        if "pictures" in index:
            kind = "images" if index["kind"] == "pictures" else index["kind"]
            write_json(path, {"kind": kind, "images": index["pictures"]})


STEPS: Mapping[int, Callable[[Path, Store], None]] = {1: _write_down_what_answers, 2: _name_probe_images}
