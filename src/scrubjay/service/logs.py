"""The log of the service: a line for each request, as text or JSON, without images, keys, vectors or query strings."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

REQUESTS = logging.getLogger("scrubjay.service.requests")
_FIELDS = ("request_id", "method", "route", "status", "ms", "key")


class PlainFormatter(logging.Formatter):
    """Time, level, message and the fields of a request, in one line; a traceback follows it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{time} {record.levelname.lower():<7} {_one_line(record.getMessage())}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One object for each record; a traceback is one of its values."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        values: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=True)


def configure(style: str, level: str) -> None:
    """Write the log of this process to stderr.

    Args:
        style: "plain" or "json".
        level: least severe level that is written.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else PlainFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # other libraries
    for name in ("scrubjay", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel(max(logging.getLogger("scrubjay").level, logging.WARNING))
    logging.getLogger("uvicorn.error").addFilter(_no_traceback_at_start)


def request(request_id: str, method: str, route: str, status: int, ms: float, key: str | None) -> None:
    """Log a request.

    Args:
        request_id: its identity, as in its answer.
        method: HTTP method.
        route: template of its path, so that no name of an item is logged.
        status: status code of the answer.
        ms: milliseconds.
        key: id of its key; None without one.
    """
    values = {"request_id": request_id, "method": method, "route": route, "status": status, "ms": round(ms, 1)}
    REQUESTS.info("request", extra={**values, "key": key})


def _no_traceback_at_start(record: logging.LogRecord) -> bool:
    """Drops the traceback of a start that failed, whose reason the application has logged in one line."""
    return not record.getMessage().startswith("Traceback")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _FIELDS if getattr(record, name, None) is not None}


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())
