"""What the journal of a backfill tells: whether one is at work, was cut short, or is complete."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scrubjay.errors import CatalogueError
from scrubjay.io.journal import Journal
from scrubjay.io.locking import locked

State = Literal["none", "at work", "interrupted", "stopped", "complete"]


@dataclass(frozen=True, slots=True)
class Progress:
    """The last stretch of work that a journal tells of.

    Attributes:
        generation: whose backfill it is: the journal's name.
        state: "interrupted": neither at its end nor at a limit; "stopped": by a limit, or with something open.
        items: that it was to embed.
        done: items embedded.
        skipped: id, URI and reason of what it left out.
        at: when its last line was written, ISO 8601, UTC.
        problems: what its audit found wrong.
    """

    generation: str
    state: State
    items: int = 0
    done: int = 0
    skipped: tuple[tuple[str, str, str], ...] = ()
    at: str | None = None
    problems: tuple[str, ...] = ()

    def line(self, folder: Path) -> str | None:
        """For a terminal, with the command that goes on; None where there is nothing to say."""
        if self.state in ("none", "complete"):
            return None
        told = f"backfill with {self.generation}: {self.state}, {self.done} of {self.items} items embedded ({self.at})"
        return told if self.state == "at work" else f"{told}; it goes on with: scrubjay backfill {folder}"


def read_journal(path: Path) -> Progress:
    """What the journal at a path tells; what a kill has torn is passed over. Nothing is changed."""
    journal = Journal(path)
    lines = journal.read()
    start = next((row for row in range(len(lines) - 1, -1, -1) if lines[row].get("event") == "start"), None)
    if start is None:
        return Progress(path.stem, "none")
    stretch = lines[start:]
    last = stretch[-1]
    state: State = "interrupted"
    if last["event"] in ("complete", "stopped"):
        state = last["event"]
    elif _at_work(journal):
        state = "at work"
    return Progress(
        path.stem,
        state,
        int(stretch[0]["items"]),
        sum(line["items"] for line in stretch if line["event"] == "batch"),
        tuple({entry[0]: (entry[0], entry[1], entry[2]) for entry in _entries(stretch)}.values()),
        last["at"],
        tuple(last.get("problems", ())),
    )


def left_out(journal: Journal) -> set[str]:
    """Ids of the items that were ever left out."""
    return {entry[0] for entry in _entries(journal.read())}


def _entries(lines: list[dict[str, object]]) -> Iterator[list[str]]:
    for line in lines:
        skipped = line.get("skipped")
        if isinstance(skipped, list):
            yield from skipped


@contextmanager
def locked_for(journal: Journal) -> Iterator[None]:
    """Inside of the block no other backfill with the same journal is at work.

    Raises:
        CatalogueError: one is.
    """
    name = journal.path.stem
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(journal.path.parent, f"{name}.lock"))
        except CatalogueError:
            raise CatalogueError(
                f"{journal.path}: another backfill with {name} is at work; wait until it has finished."
            ) from None
        yield


def _at_work(journal: Journal) -> bool:
    try:
        with journal.path.with_suffix(".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look do not see each other
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
