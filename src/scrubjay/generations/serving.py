"""Which generation answers queries: one small file that is replaced atomically, so that a rollback takes no time.

    shop/serving.json    {"revision": 3, "generation": "g2", "shadow": null, "history": [{"action": "promote", …}, …]}

A change of the serving generation does not touch any vector: those of the generation before it stay searchable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from scrubjay.errors import CatalogueError, ServingChangedError, StorageError
from scrubjay.io.atomic import write_json
from scrubjay.io.locking import locked

Action = Literal["promote", "rollback"]


@dataclass(frozen=True, slots=True)
class Shadow:
    """A generation that also answers a share of the live queries, for comparison only.

    Attributes:
        generation: name of the generation.
        share: share of the queries that it answers, 0 to 1.
    """

    generation: str
    share: float


@dataclass(frozen=True, slots=True)
class ServingChange:
    """One change of the serving generation.

    Attributes:
        action: "promote" or "rollback".
        before: name of the generation that answered before; None for none.
        after: name of the generation that answers afterwards.
        at: time of the change, ISO 8601, UTC.
        forced: the generation was promoted although its gate failed.
        reasons: why the gate failed.
    """

    action: Action
    before: str | None
    after: str
    at: str
    forced: bool = False
    reasons: tuple[str, ...] = ()

    def text(self) -> str:
        """The change in one line."""
        before = "" if self.before is None else f" after {self.before}"
        forced = f", forced against the gate: {'; '.join(self.reasons)}" if self.forced else ""
        return f"{self.action} {self.after}{before}{forced}"


@dataclass(frozen=True, slots=True)
class Serving:
    """The content of `serving.json`.

    Attributes:
        revision: number of changes so far.
        generation: name of the generation that answers queries; None before the first promotion.
        shadow: the shadow generation; None for none.
        history: all changes of the serving generation, oldest first.
    """

    revision: int = 0
    generation: str | None = None
    shadow: Shadow | None = None
    history: tuple[ServingChange, ...] = ()

    @property
    def previous(self) -> str | None:
        """Name of the generation that a rollback leads to, which answered before the promotion; None for none."""
        promoted: list[str] = []
        for change in self.history:
            if change.after in promoted:
                del promoted[promoted.index(change.after) + 1 :]
            else:
                promoted.append(change.after)
        return promoted[-2] if len(promoted) > 1 else None

    @property
    def rolled_back(self) -> frozenset[str]:
        """Names of generations that were rolled back and not promoted since."""
        names: set[str] = set()
        for change in self.history:
            names.discard(change.after)
            if change.action == "rollback" and change.before is not None:
                names.add(change.before)
        return frozenset(names)


class ServingFile:
    """Reads and changes `serving.json` in the folder of a catalogue.

    Args:
        folder: folder of the catalogue.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "serving.json"

    def read(self) -> Serving:
        """The content of the file; without a file, no generation answers.

        Raises:
            StorageError: the file is damaged.
        """
        try:
            return _serving(json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Serving()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{self.path}: damaged ({error}): delete it and promote a generation again: "
                f"scrubjay promote {self.folder} GENERATION; vectors and generations are untouched."
            ) from None

    def change(
        self,
        action: Action,
        generation: str,
        expected: int,
        *,
        forced: bool = False,
        reasons: tuple[str, ...] = (),
    ) -> Serving:
        """Let a generation answer queries, if nothing has changed since the revision `expected` was read.

        Args:
            action: "promote" or "rollback".
            generation: name of the generation that is to answer.
            expected: revision on which the decision was based.
            forced: the gate of the generation failed.
            reasons: why the gate failed.

        Raises:
            ServingChangedError: another process changed the file in the meantime.
            InUseError: another process is changing it.
            StorageError: the file could not be written; the serving generation is unchanged.
        """
        with locked(self.folder, "serving.lock"):
            current = self.expect(expected)
            change = ServingChange(action, current.generation, generation, _time(), forced, reasons)
            shadow = current.shadow
            if shadow is not None and shadow.generation == generation:
                shadow = None
            changed = Serving(current.revision + 1, generation, shadow, (*current.history, change))
            write_json(self.path, asdict(changed))
            return changed

    def rollback(self, generation: str | None = None, expected: int | None = None) -> Serving:
        """Let an earlier generation answer queries again.

        Args:
            generation: name of the generation; by default `Serving.previous`.
            expected: revision on which the decision was based; None: the one that is read now.

        Raises:
            CatalogueError: there is no such generation, or it answers already.
            ServingChangedError: another process changed the file in the meantime.
        """
        current = self.read() if expected is None else self.expect(expected)
        target = generation or current.previous
        if target is None:
            if current.generation is None:
                raise CatalogueError(f"{self.folder}: nothing to roll back to: no generation answers queries yet.")
            raise CatalogueError(
                f"{self.folder}: nothing to roll back to: {current.generation} is the first generation that answers."
            )
        if target == current.generation:
            raise CatalogueError(f"{self.folder}: {target} answers queries already.")
        if not (self.folder / "generations" / target / "generation.json").is_file():
            known = sorted(path.parent.name for path in self.folder.glob("generations/g*/generation.json"))
            raise CatalogueError(f"there is no generation {target!r}; there are: {', '.join(known)}.")
        return self.change("rollback", target, current.revision)

    def shadow(self, shadow: Shadow | None, expected: int) -> Serving:
        """Set the shadow generation, or end shadow answers with None; arguments and errors as in `change`."""
        with locked(self.folder, "serving.lock"):
            current = self.expect(expected)
            changed = replace(current, revision=current.revision + 1, shadow=shadow)
            write_json(self.path, asdict(changed))
            return changed

    def expect(self, revision: int) -> Serving:
        """The content of the file, if it still is of this revision.

        Raises:
            ServingChangedError: it is of another one.
        """
        current = self.read()
        if current.revision != revision:
            raise ServingChangedError(
                f"{self.folder}: another process changed the serving generation to {current.generation} in the "
                f"meantime (revision {current.revision}, not {revision}): see `scrubjay status {self.folder}` and "
                "decide again."
            )
        return current


def _time() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _serving(values: Mapping[str, Any]) -> Serving:
    shadow = values["shadow"]
    history = tuple(ServingChange(**{**change, "reasons": tuple(change["reasons"])}) for change in values["history"])
    return Serving(int(values["revision"]), values["generation"], Shadow(**shadow) if shadow else None, history)
