"""Which generation answers queries: one small file that is replaced whole, so that a change of mind takes no time.

    shop/serving.json    {"revision": 3, "generation": "g2", "shadow": null, "history": [{"action": "promote", …}, …]}

Vectors are never touched by a change: those of the generation before stay where they are, and searchable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from scrubjay.errors import CatalogueError, StorageError
from scrubjay.io.atomic import write_json
from scrubjay.io.locking import locked

Action = Literal["promote", "rollback"]


@dataclass(frozen=True, slots=True)
class Shadow:
    """A generation that also answers a share of the live queries, for comparison only.

    Attributes:
        generation: its name.
        share: of the queries, 0 … 1.
    """

    generation: str
    share: float


@dataclass(frozen=True, slots=True)
class Turn:
    """One change of the generation that answers.

    Attributes:
        action: what was done.
        before: the generation that answered, or None.
        after: the one that answers from then on.
        at: time, ISO 8601, UTC.
        forced: against a gate that failed, or was not asked.
        reasons: why the gate failed.
    """

    action: Action
    before: str | None
    after: str
    at: str
    forced: bool = False
    reasons: tuple[str, ...] = ()

    def text(self) -> str:
        """One line on it."""
        from_ = "" if self.before is None else f" after {self.before}"
        force = f", forced against the gate: {'; '.join(self.reasons)}" if self.forced else ""
        return f"{self.action} {self.after}{from_}{force}"


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served.

    Attributes:
        revision: number of changes so far.
        generation: the one that answers; None before the first.
        shadow: what answers beside it.
        history: all changes, oldest first.
    """

    revision: int = 0
    generation: str | None = None
    shadow: Shadow | None = None
    history: tuple[Turn, ...] = ()

    @property
    def previous(self) -> str | None:
        """What answered before the present generation was promoted: where a rollback leads."""
        reached: list[str] = []
        for turn in self.history:
            if turn.after in reached:
                del reached[reached.index(turn.after) + 1 :]
            else:
                reached.append(turn.after)
        return reached[-2] if len(reached) > 1 else None

    @property
    def left(self) -> frozenset[str]:
        """Generations that were rolled back from and not promoted since."""
        gone: set[str] = set()
        for turn in self.history:
            gone.discard(turn.after)
            if turn.action == "rollback" and turn.before is not None:
                gone.add(turn.before)
        return frozenset(gone)


class ServingFile:
    """Reads and changes `serving.json` in the folder of a catalogue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "serving.json"

    def read(self) -> Serving:
        """What is served now; a file that is not there serves nothing.

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

    def turn(
        self,
        action: Action,
        generation: str,
        expected: int,
        *,
        forced: bool = False,
        reasons: tuple[str, ...] = (),
    ) -> Serving:
        """Let a generation answer, if nothing has changed since `expected` was read.

        Raises:
            CatalogueError: another process changed it meanwhile.
            StorageError: the file could not be written; what was served before still is.
        """
        with locked(self.folder, "serving.lock"):
            now = self._expected(expected)
            turn = Turn(action, now.generation, generation, _time(), forced, reasons)
            shadow = None if now.shadow is None or now.shadow.generation == generation else now.shadow
            changed = Serving(now.revision + 1, generation, shadow, (*now.history, turn))
            write_json(self.path, asdict(changed))
            return changed

    def rollback(self, generation: str | None = None) -> Serving:
        """Let an earlier generation answer again; by default the one that did before the present one.

        Raises:
            CatalogueError: there is none, it answers already, or another process changed it meanwhile.
        """
        now = self.read()
        target = generation or now.previous
        if target is None:
            first = now.generation or "no generation"
            raise CatalogueError(f"{self.folder}: nothing to roll back to: {first} is the first that answers.")
        if target == now.generation:
            raise CatalogueError(f"{self.folder}: {target} answers already.")
        if not (self.folder / "generations" / target / "generation.json").is_file():
            known = sorted(path.parent.name for path in self.folder.glob("generations/g*/generation.json"))
            raise CatalogueError(f"there is no generation {target!r}; there are: {', '.join(known)}.")
        return self.turn("rollback", target, now.revision)

    def shadow(self, shadow: Shadow | None, expected: int) -> Serving:
        """Set or end what answers beside the serving generation; see `turn`."""
        with locked(self.folder, "serving.lock"):
            now = self._expected(expected)
            changed = replace(now, revision=now.revision + 1, shadow=shadow)
            write_json(self.path, asdict(changed))
            return changed

    def _expected(self, revision: int) -> Serving:
        now = self.read()
        if now.revision != revision:
            raise CatalogueError(
                f"{self.folder}: another process let {now.generation} answer meanwhile; look at "
                f"`scrubjay status {self.folder}` and decide again."
            )
        return now


def _time() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _serving(values: Mapping[str, Any]) -> Serving:
    shadow = values["shadow"]
    history = tuple(Turn(**{**turn, "reasons": tuple(turn["reasons"])}) for turn in values["history"])
    return Serving(int(values["revision"]), values["generation"], Shadow(**shadow) if shadow else None, history)
