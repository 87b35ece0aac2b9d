"""Generations on disk: immutable folders g0, g1, …, each with its weights, its parent and what was measured.

    g1/generation.json       everything that is no tensor, readable
    g1/network.safetensors   embedder and head
    g1/method.safetensors    what the method keeps for the next session, if anything
    g1/bridges.safetensors   the maps to its parent's embedding space and from it
    g1/session.safetensors   what it and its parent make of the session's images

A generation appears whole or not at all: it is written beside its place and renamed.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scrubjay import bridges as maps
from scrubjay.bridges import Bridge
from scrubjay.errors import CatalogueError, CheckpointError, StorageError
from scrubjay.io.atomic import write_json
from scrubjay.methods import Method
from scrubjay.models.checkpoint import load_into, load_tensors, save_tensors
from scrubjay.models.embedder import Network, NetworkOptions

FORMAT = 1
RESTORE = "restore it from a copy; other generations are untouched"


@dataclass(frozen=True, slots=True)
class Generation:
    """One trained network.

    Attributes:
        folder: where it lies; its name is the generation's.
        info: what `generation.json` holds.
    """

    folder: Path
    info: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name: g0, g1 and so on."""
        return self.folder.name

    @property
    def number(self) -> int:
        """Position in the line, from 0."""
        return int(self.folder.name[1:])

    @property
    def fingerprint(self) -> str:
        """Of its embedding space."""
        return str(self.info["fingerprint"])

    @property
    def parent(self) -> str | None:
        """Name of the generation that it was trained from."""
        parent = self.info["parent"]
        return None if parent is None else str(parent)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes learned so far, in the order of the head's rows."""
        return tuple(self.info["classes"])

    @property
    def new_classes(self) -> tuple[str, ...]:
        """Names of the classes that its own session brought."""
        return tuple(self.info.get("new_classes", ()))


class Lineage:
    """The generations in a folder, oldest first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def generations(self) -> list[Generation]:
        """All whole generations.

        Raises:
            CheckpointError: a `generation.json` is damaged or of a newer format.
        """
        found = [path for path in self.folder.glob("g*") if path.name[1:].isdigit() and path.is_dir()]
        return [_read(path) for path in sorted(found, key=lambda path: int(path.name[1:]))]

    @property
    def newest(self) -> Generation | None:
        """The generation made last; None before the first."""
        return next(reversed(self.generations()), None)

    def get(self, name: str) -> Generation:
        """The generation of this name.

        Raises:
            CatalogueError: there is none; the known ones are listed.
        """
        generations = self.generations()
        for generation in generations:
            if generation.name == name:
                return generation
        known = ", ".join(generation.name for generation in generations) or "none yet: learn one first"
        raise CatalogueError(f"there is no generation {name!r}; there are: {known}.")

    def line(self, name: str) -> list[str]:
        """Names of a generation and of all that it descends from, youngest first; some may have been pruned.

        Raises:
            CatalogueError: there is no generation of this name.
        """
        known = {generation.name: generation for generation in self.generations()}
        youngest = known[name] if name in known else self.get(name)
        if "line" in youngest.info:
            return [name, *youngest.info["line"]]
        line = [name]
        while (parent := known[line[-1]].parent if line[-1] in known else None) is not None:
            line.append(parent)
        return line

    def path(self, source: str, target: str) -> list[str]:
        """Names of the generations from one to another, each the parent or a child of the one before.

        A pruned generation may stand on it, and at its end: the bridges to a parent lie with the child.

        Raises:
            CatalogueError: neither exists, or they have no generation in common.
        """
        known = {generation.name for generation in self.generations()}
        if target not in known and source in known and target in self.line(source):
            return self.line(source)[: self.line(source).index(target) + 1]
        up, down = self.line(source), self.line(target)
        shared = next((name for name in up if name in down), None)
        if shared is None:
            raise CatalogueError(f"no line of generations leads from {source} to {target}: they share no ancestor.")
        return [*up[: up.index(shared)], *reversed(down[: down.index(shared) + 1])]

    def add(
        self,
        method: Method,
        info: Mapping[str, Any],
        parent: Generation | None = None,
        *,
        bridges: Mapping[str, Bridge] | None = None,
        embedded: Mapping[str, Tensor] | None = None,
    ) -> Generation:
        """Write the next generation.

        Args:
            method: holds the trained network, and what it keeps for the next session.
            info: `fingerprint`, `classes` and whatever else describes it, JSON-able.
            parent: what it was trained from; by default the newest generation.
            bridges: `to_parent` and `from_parent`.
            embedded: the session's images in its own space and in its parent's, by name.

        Raises:
            StorageError: the disk is full or the folder cannot be written; nothing is left behind.
        """
        newest = self.newest
        parent = parent or newest
        name = f"g{0 if newest is None else newest.number + 1}"
        description = {
            "format": FORMAT,
            "name": name,
            "parent": None if parent is None else parent.name,
            "line": [] if parent is None else self.line(parent.name),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "network": method.network.options.model_dump(mode="json"),
            "versions": versions(),
            **info,
        }
        building = self.folder / f".{name}.{os.getpid()}"
        try:
            save_tensors(building / "network.safetensors", method.network.state_dict(), {"generation": name})
            kept = {key: value for key, value in method.state_dict().items() if _is_own(key)}
            if kept:
                save_tensors(building / "method.safetensors", kept, {"generation": name})
            if bridges:
                maps.save(building / "bridges.safetensors", bridges)
            if embedded:
                save_tensors(building / "session.safetensors", embedded, {"generation": name})
            write_json(building / "generation.json", description)
            building.rename(self.folder / name)
        except OSError as error:
            raise StorageError(f"{self.folder / name}: could not be put in place ({error.strerror}).") from None
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return Generation(self.folder / name, description)

    def network(self, generation: Generation) -> Network:
        """The generation's network, in evaluation mode, on the CPU.

        Raises:
            CheckpointError: its files are damaged or do not fit.
        """
        options = NetworkOptions.parse(generation.info["network"], str(generation.folder))
        network = Network(options.model_copy(update={"pretrained": False}))
        network.options = options
        weights = generation.folder / "network.safetensors"
        load_into(network, load_tensors(weights, RESTORE)[0], weights)
        return network.eval()

    def bridges(self, generation: Generation) -> dict[str, Bridge]:
        """Its maps `to_parent` and `from_parent`; none where it has no parent, or was made without.

        Raises:
            CheckpointError: their file is damaged.
        """
        path = generation.folder / "bridges.safetensors"
        return maps.load(path) if path.exists() else {}

    def embedded(self, generation: Generation) -> dict[str, Tensor]:
        """What `add` was given as `embedded`.

        Raises:
            CheckpointError: the file is damaged.
        """
        path = generation.folder / "session.safetensors"
        return load_tensors(path, RESTORE)[0] if path.exists() else {}

    def restore(self, generation: Generation, method: Method) -> None:
        """Bring a method to where it was when the generation was made.

        Raises:
            CheckpointError: its files are damaged or are of another network.
        """
        weights = generation.folder / "network.safetensors"
        load_into(method.network, load_tensors(weights, RESTORE)[0], weights)
        kept = generation.folder / "method.safetensors"
        if kept.exists():
            state = method.state_dict()
            tensors, _ = load_tensors(kept, RESTORE)
            load_into(method, {**state, **{key: value for key, value in tensors.items() if key in state}}, kept)


def class_means(generation: Generation) -> NDArray[np.float32] | None:
    """Means (C, d) of the classes that the generation's method stores, in its space; None where it stores none.

    Raises:
        CheckpointError: the file that holds them is damaged.
    """
    kept = generation.folder / "method.safetensors"
    if not kept.exists():
        return None
    means = load_tensors(kept, RESTORE)[0].get("memory.means")
    return None if means is None else means.numpy()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    packages = ("scrubjay", "torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "lancedb")
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _is_own(key: str) -> bool:
    """Whether a part of a method's state outlives its session and is not in `network.safetensors` already."""
    return not key.startswith(("network.", "teacher.", "metric."))


def _read(folder: Path) -> Generation:
    path = folder / "generation.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or missing ({error}): move the folder {folder} away.") from None
    if info.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {info.get('format')}, this version reads {FORMAT}; upgrade scrubjay.")
    return Generation(folder, info)
