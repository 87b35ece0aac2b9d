"""The files of the statistics of sessions, and their sum along a line of generations."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from scrubjay.closed_form.statistics import Statistics
from scrubjay.components.accumulation import Accumulation
from scrubjay.errors import CheckpointError
from scrubjay.generations.class_names import ClassNames
from scrubjay.generations.generation import Generation
from scrubjay.generations.session_statistics import RESTORE, SessionStatistics, TrainingImages, names_of
from scrubjay.methods import Method


class StatisticsFolder:
    """The statistics of sessions in a folder, by the name of the generation that learned the session.

    Args:
        folder: folder of the files; it is created when the first one is stored.
    """

    def __init__(self, folder: Path, class_names: ClassNames | None = None) -> None:
        self.folder = folder
        self._class_names = class_names or ClassNames(folder.with_name("class_names.json"))
        self._last: _Total | None = None

    def path(self, name: str) -> Path:
        """Path of the file of a session."""
        return self.folder / f"{name}.safetensors"

    def paths(self) -> list[Path]:
        """Paths of all files, in the order of their names."""
        return sorted(self.folder.glob("*.safetensors"))

    def get(self, name: str) -> SessionStatistics:
        """The statistics of a session, under today's names of its classes; merged classes are one.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        session, applied = SessionStatistics.load(self.path(name))
        return session.renamed(self._class_names.current(session.classes, int(name.removeprefix("g")), applied))

    def hashes(self, name: str) -> set[str]:
        """Content hashes of the images of a session, without reading the rest of its file; errors as in `get`."""
        path = self.path(name)
        try:
            with safe_open(path, framework="pt") as file:
                held = "images.hashes" in file.keys()  # noqa: SIM118
                return set(names_of(file.get_tensor("images.hashes"))) if held else set()
        except (OSError, SafetensorError, ValueError) as error:
            raise CheckpointError(f"{path}: damaged or incomplete ({error}): {RESTORE}.") from None

    def centre_crops(self, name: str, era: str, hashes: Collection[str]) -> dict[str, Tensor]:
        """Kept features float16 (p,) of the centre crops of images, by content hash; without reading the other ones.

        Args:
            name: name of the session's generation.
            era: identity of the trunk; features of another one are not returned.
            hashes: content hashes of the images that are asked for.

        Returns:
            The features of those that were learned in the session, where they are kept.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        path = self.path(name)
        try:
            with safe_open(path, framework="pt") as file:
                info = json.loads((file.metadata() or {}).get("info", "{}"))
                if info.get("era") != era or "images.features" not in file.keys():  # noqa: SIM118
                    return {}
                learned = enumerate(names_of(file.get_tensor("images.hashes")))
                features = file.get_slice("images.features")
                return {image: features[row, 0] for row, image in learned if image in hashes}
        except (OSError, SafetensorError, ValueError) as error:
            raise CheckpointError(f"{path}: damaged or incomplete ({error}): {RESTORE}.") from None

    def put(self, name: str, session: SessionStatistics) -> None:
        """Store the statistics of a session; an earlier file is replaced.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        session.save(self.path(name), len(self._class_names.changes))

    def add(
        self,
        name: str,
        parent: Generation | None,
        method: Method,
        classes: tuple[str, ...],
        images: TrainingImages | None,
    ) -> tuple[str, ...]:
        """Store what the session of a new generation has added to the statistics of its method.

        Args:
            name: name of the new generation.
            parent: generation that was trained further.
            method: the method after the session.
            classes: names of the classes, by label.
            images: the images that the session learned from, where they are known.

        Returns:
            Names of the generations on the line whose sessions have statistics, oldest first.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        if not isinstance(method, Accumulation):
            return ()
        earlier = () if parent is None else parent.info.statistics
        if method.session_statistics is None:
            return earlier
        self.put(name, SessionStatistics.of_session(classes, method.session_statistics, images))
        return (*earlier, name)

    def total(self, generation: Generation) -> Statistics | None:
        """Statistics of all images on the line of a generation; None where it was not learned in closed form.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        asked = _Total(generation.classes, tuple(self._file(name) for name in generation.info.statistics))
        total = asked.continued(self._last)
        done = 0 if total is None or self._last is None else len(self._last.files)
        for name in generation.info.statistics[done:]:
            session = self.get(name).under(generation.classes)
            total = session if total is None else total + session
        if total is not None:
            self._last = replace(asked, statistics=total)
        return total

    def _file(self, name: str) -> tuple[str, int, int]:
        """Which version of the file of a session there is: name, time of its last change, and size."""
        path = self.path(name)
        try:
            state = path.stat()
        except OSError:
            return name, 0, 0  # reading it raises the error
        return name, state.st_mtime_ns, state.st_size


@dataclass(frozen=True, slots=True)
class _Total:
    """A sum of statistics, kept because that of the next generation begins with it.

    Attributes:
        classes: names of the classes, by label.
        files: the files that were added, in their order.
        statistics: the sum.
    """

    classes: tuple[str, ...]
    files: tuple[tuple[str, int, int], ...]
    statistics: Statistics | None = None

    def continued(self, last: _Total | None) -> Statistics | None:
        """The sum that this one begins with, if the last one is that."""
        if last is None or last.statistics is None:
            return None
        begins = self.classes[: len(last.classes)] == last.classes and self.files[: len(last.files)] == last.files
        return last.statistics if begins else None
