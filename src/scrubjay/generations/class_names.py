"""Classes that were renamed or merged after generations had learned them: `generations/class_names.json`.

    [{"old": "jay", "new": "scrub jay", "before": 3, "done": true}, …]

Generations never change, so their names are translated when they are read: each entry, in order, applies to the
generations that were made before it. Afterwards the old name is free for another class. Renaming a class to the name of
another one merges the two: their rows in the heads of existing generations then have the same name, and the statistics
of learning in closed form are those of one class, which the next session learns as one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from scrubjay.errors import CatalogueError, CheckpointError
from scrubjay.generations.generation import Generation
from scrubjay.io.atomic import write_json


@dataclass(frozen=True, slots=True)
class NameChange:
    """A class that was renamed, or merged into another one.

    Attributes:
        old: its name before.
        new: its name afterwards.
        before: number of the first generation that was made afterwards.
        done: whether the items, probe images and logged queries have the new name as well.
    """

    old: str
    new: str
    before: int
    done: bool = False


class ClassNames:
    """The changes of names in one folder of generations. A change by another process is seen at the next use.

    Args:
        path: the file; there is none before the first change.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: tuple[tuple[int, int] | None, tuple[NameChange, ...]] = None, ()

    @property
    def changes(self) -> tuple[NameChange, ...]:
        """All changes, oldest first.

        Raises:
            CheckpointError: the file is damaged.
        """
        try:
            status = os.stat(self.path)
        except OSError:
            return ()
        state = status.st_ino, status.st_mtime_ns
        if self._read[0] != state:
            self._read = state, self._parsed()
        return self._read[1]

    def _parsed(self) -> tuple[NameChange, ...]:
        try:
            return tuple(NameChange(**entry) for entry in json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{self.path}: damaged ({error}): restore it from a copy.") from None

    def current(self, names: Sequence[str], number: int, applied: int = 0) -> tuple[str, ...]:
        """Today's names of classes.

        Args:
            names: their names as they were written.
            number: number of the generation that they were written for.
            applied: number of changes that had been made when they were written.
        """
        changed = {name: name for name in names}
        for change in self.changes[applied:]:
            if number < change.before:
                changed = {name: change.new if now == change.old else now for name, now in changed.items()}
        return tuple(changed[name] for name in names)

    def translated(self, generation: Generation) -> Generation:
        """A generation with today's names of its classes."""
        info, number = generation.info, generation.number
        names = {
            "classes": self.current(info.classes, number),
            "new_classes": tuple(dict.fromkeys(self.current(info.new_classes, number))),
            "extended_classes": tuple(dict.fromkeys(self.current(info.extended_classes, number))),
        }
        return replace(generation, info=info.model_copy(update=names))

    @property
    def unfinished(self) -> NameChange | None:
        """The change that was interrupted; None where there is none."""
        return next((change for change in self.changes if not change.done), None)

    def refuse_unfinished(self) -> None:
        """Make sure that no change was interrupted.

        Raises:
            CatalogueError: one was.
        """
        change = self.unfinished
        if change is not None:
            raise CatalogueError(
                f"giving class {change.old!r} the name {change.new!r} was interrupted: repeat it, or `scrubjay add` "
                "any image, which finishes it as well."
            )

    def begin(self, change: NameChange) -> None:
        """Write a change: from now on generations are read with it.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        write_json(self.path, [asdict(each) for each in (*self.changes, change)])

    def finish(self) -> None:
        """Mark all changes as done; errors as in `begin`."""
        write_json(self.path, [asdict(replace(each, done=True)) for each in self.changes])
