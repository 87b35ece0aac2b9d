"""The line of generations on disk: immutable folders g0, g1, …, each with its weights, its parent and its figures.

    g1/generation.json       everything that is not a tensor, readable
    g1/network.safetensors   projection and head: the network without its backbone
    g1/method.safetensors    the state that the method keeps for the next session, if any
    g1/bridges.safetensors   the maps to the parent's embedding space and back
    g1/session.safetensors   embeddings of the session's images by this generation and by its parent
    trunks/                  the backbones, each stored once for all generations that share its weights; see `Trunks`
    class_names.json         classes that were renamed or merged afterwards; see `ClassNames`
    statistics/              of learning in closed form, what each session added; see `SessionStatistics`

A generation appears completely or not at all: it is written to a temporary folder beside its place, then renamed. Its
backbone is stored before that. In generations of formats 1 and 2, `network.safetensors` holds the backbone as well.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrubjay import bridges as maps
from scrubjay.bridges import Bridge
from scrubjay.components.accumulation import Accumulation
from scrubjay.errors import CatalogueError, NotFoundError, StorageError
from scrubjay.generations.class_names import ClassNames
from scrubjay.generations.generation import Generation, GenerationInfo, SessionRecord, read_generation
from scrubjay.generations.session_embeddings import SessionEmbeddings
from scrubjay.generations.session_statistics import TrainingImages
from scrubjay.generations.statistics_folder import StatisticsFolder
from scrubjay.generations.trunks import PREFIX, Trunks
from scrubjay.generations.versions import versions
from scrubjay.io.atomic import write_json
from scrubjay.methods import Method
from scrubjay.models.checkpoint import load_into, load_tensors, save_tensors
from scrubjay.models.embedder import Network

RESTORE = "restore it from a copy; other generations are untouched"


class Lineage:
    """The generations in a folder, oldest first. Each `generation.json` is parsed once: a generation never changes.

    Args:
        folder: folder that holds the folders of the generations.

    Attributes:
        trunks: the backbones of the generations.
        statistics: what each session learned in closed form has added to the statistics.
        class_names: classes that were renamed or merged since generations learned them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trunks = Trunks(folder / "trunks")
        self.class_names = ClassNames(folder / "class_names.json")
        self.statistics = StatisticsFolder(folder / "statistics", self.class_names)
        self._parsed: dict[Path, tuple[tuple[Any, ...], Generation]] = {}

    def generations(self) -> list[Generation]:
        """All complete generations, oldest first.

        Raises:
            CheckpointError: a `generation.json` is damaged or of a newer format.
        """
        folders = [path for path in self.folder.glob("g*") if path.name[1:].isdigit() and path.is_dir()]
        return [self._read(path) for path in sorted(folders, key=lambda path: int(path.name[1:]))]

    def by_name(self) -> dict[str, Generation]:
        """All complete generations by name, oldest first; see `generations`."""
        return {generation.name: generation for generation in self.generations()}

    def _read(self, folder: Path) -> Generation:
        """A generation under today's names of classes, parsed again only if its folder or these names have changed."""
        try:
            status = os.stat(folder / "generation.json")
        except OSError:
            return read_generation(folder)  # which reports what is wrong with it
        state = (status.st_ino, status.st_mtime_ns, self.class_names.changes)
        known = self._parsed.get(folder)
        if known is None or known[0] != state:
            known = self._parsed[folder] = (state, self.class_names.translated(read_generation(folder)))
        return known[1]

    @property
    def newest(self) -> Generation | None:
        """The generation that was made last; None before the first one."""
        return next(reversed(self.generations()), None)

    def get(self, name: str) -> Generation:
        """The generation of this name.

        Raises:
            NotFoundError: there is none; the known ones are listed.
        """
        generations = self.generations()
        for generation in generations:
            if generation.name == name:
                return generation
        known = ", ".join(generation.name for generation in generations) or "none yet: learn one first"
        raise NotFoundError(f"there is no generation {name!r}; there are: {known}.")

    def line(self, name: str) -> list[str]:
        """Names of a generation and of all its ancestors, youngest first; ancestors may have been pruned.

        Raises:
            CatalogueError: there is no generation of this name.
        """
        known = self.by_name()
        youngest = known[name] if name in known else self.get(name)
        if youngest.info.line is not None:
            return [name, *youngest.info.line]
        line = [name]
        while (parent := known[line[-1]].parent if line[-1] in known else None) is not None:
            line.append(parent)
        return line

    def has_trained_backbone(self, generation: Generation) -> bool:
        """Whether a session on the line of a generation took gradient steps; pruned ancestors are not considered."""
        known = self.by_name()
        return any(known[name].info.curves for name in self.line(generation.name) if name in known)

    def path(self, source: str, target: str) -> list[str]:
        """Names of the generations from one to another, each the parent or a child of the one before.

        Generations on the path and its target may have been pruned: the bridges to a parent are stored with the child.

        Raises:
            CatalogueError: neither exists, or they have no ancestor in common.
        """
        known = self.by_name()
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
        record: SessionRecord,
        parent: Generation | None = None,
        *,
        bridges: Mapping[str, Bridge] | None = None,
        embeddings: SessionEmbeddings | None = None,
        images: TrainingImages | None = None,
    ) -> Generation:
        """Write the next generation.

        Args:
            method: holds the trained network and the state that the method keeps for the next session.
            record: what the learner reports about the session.
            parent: generation that was trained further; by default the newest one.
            bridges: `to_parent` and `from_parent`.
            embeddings: embeddings of the session's images by the new generation and by its parent.
            images: the images whose statistics the method has accumulated, with labels as in `record.classes`.

        Raises:
            StorageError: the disk is full or the folder cannot be written; no generation is left behind.
        """
        newest = self.newest
        parent = parent or newest
        name = f"g{0 if newest is None else newest.number + 1}"
        weights = method.network.state_dict()
        own = {key: value for key, value in weights.items() if not key.startswith(PREFIX)}
        info = GenerationInfo(
            name=name,
            trunk=self.trunks.put({key: value for key, value in weights.items() if key not in own}),
            statistics=self.statistics.add(name, parent, method, record.classes, images),
            parent=None if parent is None else parent.name,
            line=() if parent is None else tuple(self.line(parent.name)),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            network=method.network.options,
            versions=versions(),
            **{field: getattr(record, field) for field in SessionRecord.model_fields},
        )
        building = self.folder / f".{name}.{os.getpid()}"
        try:
            save_tensors(building / "network.safetensors", own, {"generation": name})
            kept = {key: value for key, value in method.state_dict().items() if _is_own(key)}
            if kept:
                save_tensors(building / "method.safetensors", kept, {"generation": name})
            if bridges:
                maps.save(building / "bridges.safetensors", bridges)
            tensors = {} if embeddings is None else embeddings.to_tensors()
            if tensors:
                save_tensors(building / "session.safetensors", tensors, {"generation": name})
            write_json(building / "generation.json", info.model_dump(mode="json"))
            building.rename(self.folder / name)
        except OSError as error:
            raise StorageError(f"{self.folder / name}: could not be put in place ({error.strerror}).") from None
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return Generation(self.folder / name, info)

    def load(self, generation: Generation, network: Network) -> None:
        """Load the weights of a generation into a network of the same options.

        Raises:
            CheckpointError: the files are damaged or belong to another network.
        """
        path = generation.folder / "network.safetensors"
        own = load_tensors(path, RESTORE)[0]
        trunk = {} if generation.info.trunk is None else self.trunks.get(generation.info.trunk)
        load_into(network, {**trunk, **own}, path)

    def unused_files(self, without: Collection[str] = ()) -> list[Path]:
        """Paths of the backbones and statistics that no generation uses.

        Args:
            without: names of generations that do not count.
        """
        counted = [each.info for each in self.generations() if each.name not in without]
        trunks = {info.trunk for info in counted}
        sessions = {name for info in counted for name in info.statistics}
        return [
            *(path for path in self.trunks.paths() if path.stem not in trunks),
            *(path for path in self.statistics.paths() if path.stem not in sessions),
        ]

    def network(self, generation: Generation) -> Network:
        """The network of a generation, in evaluation mode, on the CPU.

        Raises:
            CheckpointError: its files are damaged or do not fit.
        """
        options = generation.info.network
        network = Network(options.model_copy(update={"pretrained": False}))
        network.options = options
        self.load(generation, network)
        return network.eval()

    def bridges(self, generation: Generation) -> dict[str, Bridge]:
        """The bridges `to_parent` and `from_parent` of a generation; empty where none were stored.

        Raises:
            CheckpointError: the file of the bridges is damaged.
        """
        path = generation.folder / "bridges.safetensors"
        return maps.load(path) if path.exists() else {}

    def embeddings(self, generation: Generation) -> SessionEmbeddings:
        """The embeddings of the session's images that were stored with a generation; empty where none were.

        Raises:
            CheckpointError: the file is damaged.
        """
        path = generation.folder / "session.safetensors"
        return SessionEmbeddings.from_tensors(load_tensors(path, RESTORE)[0]) if path.exists() else SessionEmbeddings()

    def replace_embeddings(self, generation: Generation, embeddings: SessionEmbeddings) -> None:
        """Replace the embeddings that were stored with a generation: the only part of it that ever changes.

        Raises:
            StorageError: the disk is full or the folder cannot be written; the file is unchanged.
        """
        save_tensors(
            generation.folder / "session.safetensors", embeddings.to_tensors(), {"generation": generation.name}
        )

    def restore(self, generation: Generation, method: Method) -> None:
        """Load the weights and the state of a method as they were when the generation was made.

        Statistics are those of today: what was removed from them since is not in them.

        Raises:
            CheckpointError: the files are damaged or belong to another network.
        """
        self.load(generation, method.network)
        if isinstance(method, Accumulation):
            method.statistics, method.session_statistics = self.statistics.total(generation), None
        kept = generation.folder / "method.safetensors"
        if kept.exists():
            state = method.state_dict()
            tensors, _ = load_tensors(kept, RESTORE)
            load_into(method, {**state, **{key: value for key, value in tensors.items() if key in state}}, kept)


def class_means(generation: Generation) -> NDArray[np.float32] | None:
    """Class means float32 (C, d) that the method of a generation stores, in its space; None where it stores none.

    Raises:
        CheckpointError: the file that holds them is damaged.
    """
    kept = generation.folder / "method.safetensors"
    if not kept.exists():
        return None
    means = load_tensors(kept, RESTORE)[0].get("memory.means")
    return None if means is None else means.numpy()


def _is_own(key: str) -> bool:
    """Whether an entry of a method's state is kept after the session and is not part of `network.safetensors`."""
    return not key.startswith(("network.", "teacher.", "metric."))
