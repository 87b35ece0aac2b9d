"""Server-sent events of a job, read line by line."""

from __future__ import annotations

from dataclasses import dataclass, field

from scrubjay.client.call import answer_of
from scrubjay.service.schemas.jobs import JobRecord

ENDED = ("done", "failed", "cancelled")
"""States in which a job stays."""


@dataclass(slots=True)
class JobEvents:
    """Puts the records of a job together from the lines of a stream of events.

    Attributes:
        ended: whether the stream said that the job has ended.
    """

    ended: bool = False
    _name: str = "message"
    _data: list[str] = field(default_factory=list)

    def feed(self, line: str) -> JobRecord | None:
        """Take the next line; returns a record where one is complete.

        >>> events = JobEvents()
        >>> events.feed(": a comment keeps the connection alive"), events.feed("")
        (None, None)

        Raises:
            ServiceError: the record cannot be read.
        """
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                self._name = value
            elif name == "data":
                self._data.append(value)
            return None
        data, name = "\n".join(self._data), self._name
        self._data, self._name = [], "message"
        if not data:
            return None
        record = answer_of(JobRecord)(data.encode())
        self.ended = name == "end" or record.state in ENDED
        return record
