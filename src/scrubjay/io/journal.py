"""What long work has done, a line of JSON for each step, on the disk before the next one begins."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scrubjay.errors import StorageError


class Journal:
    """Lines of JSON that are on the disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, **values: Any) -> None:
        """Append a line.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        line = json.dumps({"event": event, "at": datetime.now(UTC).isoformat(timespec="seconds"), **values})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                file.seek(max(0, file.tell() - 1))
                torn = file.read(1) not in (b"", b"\n")
                file.write(b"\n" * torn + line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be written ({error.strerror}): free some space.") from None

    def read(self) -> list[dict[str, Any]]:
        """All whole lines, oldest first."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return [each for each in found if isinstance(each, dict)]

    def interrupted(self) -> bool:
        """Whether the last stretch of work neither ended nor was stopped by a limit."""
        events = [line.get("event") for line in self.read()]
        return bool(events) and events[-1] in ("start", "batch")
