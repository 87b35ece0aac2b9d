"""An append-only log of long-running work: one line of JSON per step, on disk before the next step begins."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scrubjay.errors import StorageError


class Journal:
    """A file of JSON lines; a line is on disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, **values: Any) -> None:
        """Append a line with the name of the event, the time (UTC) and the values.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        line = json.dumps({"event": event, "at": datetime.now(UTC).isoformat(timespec="seconds"), **values})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                file.seek(max(0, file.tell() - 1))
                if file.read(1) not in (b"", b"\n"):  # a process was killed in the middle of its line
                    file.write(b"\n")
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(
                f"{self.path}: cannot be written ({error.strerror}): free some space, or check the permissions."
            ) from None

    def read(self) -> list[dict[str, Any]]:
        """All complete lines, oldest first; a line cut short by a crash is skipped."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        events = []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                events.append(event)
        return events
