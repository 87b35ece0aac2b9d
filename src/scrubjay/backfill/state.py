"""Reads the journal of a backfill: whether one is running, was interrupted, or is complete."""

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

State = Literal["none", "running", "interrupted", "stopped", "complete"]


@dataclass(frozen=True, slots=True)
class Progress:
    """The last run of a backfill that a journal records.

    Attributes:
        generation: name of the generation that embeds, which is the name of the journal.
        state: "interrupted": the process died before the end; "stopped": it reached a limit, or items or problems
            remained; "none": no run is recorded.
        items: number of items that the run was to embed.
        done: number of items that it embedded.
        skipped: id, URI and reason of each item that it skipped.
        at: time of the last line, ISO 8601, UTC.
        problems: problems that its audit found.
    """

    generation: str
    state: State
    items: int = 0
    done: int = 0
    skipped: tuple[tuple[str, str, str], ...] = ()
    at: str | None = None
    problems: tuple[str, ...] = ()

    def line(self, folder: Path) -> str | None:
        """A line for a terminal, with the command that continues; None where no backfill is unfinished."""
        summary = self.summary()
        if summary is None or self.state == "running":
            return summary
        return f"{summary}; to continue: scrubjay backfill {folder}"

    def summary(self) -> str | None:
        """State and progress in one line; None where no backfill is unfinished."""
        if self.state in ("none", "complete"):
            return None
        return f"backfill with {self.generation}: {self.state}, {self.done} of {self.items} items embedded ({self.at})"


def read_journal(path: Path) -> Progress:
    """Read the journal at a path without changing it; lines that a killed process left incomplete are ignored."""
    journal = Journal(path)
    lines = journal.read()
    start = next((row for row in range(len(lines) - 1, -1, -1) if lines[row].get("event") == "start"), None)
    if start is None:
        return Progress(path.stem, "none")
    run = lines[start:]
    last = run[-1]
    state: State = "interrupted"
    if last["event"] in ("complete", "stopped"):
        state = last["event"]
    elif _is_running(journal):
        state = "running"
    return Progress(
        path.stem,
        state,
        int(run[0]["items"]),
        sum(line["items"] for line in run if line["event"] == "batch"),
        tuple({entry[0]: (entry[0], entry[1], entry[2]) for entry in _skipped(run)}.values()),
        last["at"],
        tuple(last.get("problems", ())),
    )


def skipped_ids(journal: Journal) -> set[str]:
    """Ids of all items that any run has skipped."""
    return {entry[0] for entry in _skipped(journal.read())}


def _skipped(lines: list[dict[str, object]]) -> Iterator[list[str]]:
    """Id, URI and reason of each skipped item."""
    for line in lines:
        skipped = line.get("skipped")
        if isinstance(skipped, list):
            yield from skipped


@contextmanager
def exclusive(journal: Journal) -> Iterator[None]:
    """Within the block no other backfill with the same journal runs.

    Raises:
        CatalogueError: another backfill with this journal is running.
    """
    name = journal.path.stem
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(journal.path.parent, f"{name}.lock"))
        except CatalogueError:
            raise CatalogueError(
                f"{journal.path}: another backfill with {name} is running; wait until it has finished."
            ) from None
        yield


def _is_running(journal: Journal) -> bool:
    try:
        with journal.path.with_suffix(".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two readers do not exclude each other
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
