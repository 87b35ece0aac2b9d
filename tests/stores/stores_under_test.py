"""What the stores' common suite runs against; a new store joins by its line here."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

import object_storage
import postgres_server
import qdrant_engine
from scrubjay.stores import _lance_index

# name: the address of an empty gallery, with a folder of its own; it skips where there is no such store
ADDRESS: dict[str, Callable[[Path], str]] = {
    "lancedb": lambda folder: f"lancedb://{folder}/gallery",
    "lancedb-s3": object_storage.url,
    "postgresql": lambda folder: postgres_server.url(),
    "qdrant": lambda folder: f"qdrant://{folder}/gallery",
    "qdrant-engine": qdrant_engine.url,
}
if "QDRANT_URL" in os.environ:  # qdrant://host:6333: no package holds a server that tests could start
    ADDRESS["qdrant-server"] = lambda folder: f"{os.environ['QDRANT_URL']}/scrubjay-{uuid.uuid4().hex}"

# stores that have an index at all: Qdrant's local mode scans whatever it holds, in Python
INDEXED = [name for name in ADDRESS if name != "qdrant"]

# stores that another process cannot open at the same time, and why
ALONE = {
    "qdrant": "Qdrant's local mode locks its folder",
    "qdrant-engine": "Qdrant's engine lives in this process",
}


def few_rows_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stores use their index for some thousand rows, where by themselves they would look at all of them."""
    monkeypatch.setattr(_lance_index, "EXACT_ROWS", 1000)
    monkeypatch.setattr(_lance_index, "_PARTITION", 128)


# A scan in Python, and a server in Python: a minute for what others, which stand beside them, do in seconds.
SLOW = ("lancedb-s3", "qdrant")
EACH = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in ADDRESS]
"""All stores, as the parameters of a test."""
