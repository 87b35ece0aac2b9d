"""Activations of a frozen first part of the network, computed once and kept in a file for all epochs and runs.

A file is of one frozen part and one way to prepare images: its name hashes the weights and the options. A row is of
one image (its path, size and time of change) and one crop of it. Processes may share a file; a process that is
killed leaves it whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scrubjay.data.images import ImageOptions
from scrubjay.data.loading import ImageLoader, Key
from scrubjay.errors import StorageError
from scrubjay.models.embedder import Embedder
from scrubjay.types import Batch

logger = logging.getLogger(__name__)

CENTRE = -1
"""Stands where a crop has its seed: the square in the middle."""

Row = tuple[str, int]


class Activations:
    """What the frozen part of an embedder makes of images.

    Args:
        folder: where its file lies, with those of others.
        embedder: one with a frozen part, `network.frozen`.
        images: how images are prepared. Random crops are kept when `images.views` says how many there are.

    Raises:
        StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path, embedder: Embedder, images: ImageOptions) -> None:
        if embedder.stem is None:
            raise ValueError("the embedder has no frozen part, so it has no activations to keep")
        self.embedder = embedder
        self.file = folder / f"{_key(embedder, images)}.sqlite"
        self.room = images.cache_mb * 2**20
        self._memory: dict[Row, Tensor] = {}
        self._names: dict[str, str] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._rows = sqlite3.connect(self.file, timeout=120, isolation_level=None)
            self._rows.execute("PRAGMA journal_mode=WAL")
            self._rows.execute("PRAGMA synchronous=OFF")  # a lost row is computed again
            self._rows.execute(
                "CREATE TABLE IF NOT EXISTS activations "
                "(picture TEXT, crop INTEGER, shape TEXT, value BLOB, PRIMARY KEY (picture, crop)) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise StorageError(
                f"{self.file}: cannot be used ({error}): check the folder, free some space, or delete the file."
            ) from None

    def of(self, loader: ImageLoader) -> ImageLoader:
        """The same images, whose batches hold activations float32 (B, C, h, w) in place of pixels."""
        return _Activated(loader, self)

    def batch(self, loader: ImageLoader, keys: Sequence[Key]) -> Batch:
        """One batch, in the order of its keys; what is not kept yet is computed."""
        rows = [self.row(loader, key) for key in keys]
        found = self._read(rows)
        missing = [position for position, row in enumerate(rows) if row not in found]
        failures: tuple[tuple[str, str], ...] = ()
        if missing:
            new, failures = self._compute(loader, {rows[position]: keys[position] for position in missing})
            if not loader.train or loader.options.views is not None:  # else it would never be asked for again
                self._keep(new)
            found |= new
        good = [position for position, row in enumerate(rows) if row in found]
        indices = [_index(keys[position]) for position in good]
        return Batch(
            torch.stack([found[rows[position]] for position in good]) if good else torch.empty(0, 3, 1, 1),
            torch.tensor([loader.samples[index].label for index in indices], dtype=torch.int64),
            torch.tensor(indices, dtype=torch.int64),
            failures,
        )

    def _compute(
        self, loader: ImageLoader, wanted: Mapping[Row, Key]
    ) -> tuple[dict[Row, Tensor], tuple[tuple[str, str], ...]]:
        loaded = ImageLoader.__getitems__(loader, list(wanted.values()))
        if not len(loaded.labels):
            return {}, loaded.failures
        decoded = set(loaded.indices.tolist())
        rows = [row for row, key in wanted.items() if _index(key) in decoded]
        values = self.embedder.prepare(loaded.images.to(self.embedder.mean.device)).cpu()
        return dict(zip(rows, values, strict=True)), loaded.failures

    def row(self, loader: ImageLoader, key: Key) -> Row:
        """Where the activation of an image and crop is kept."""
        sample = loader.samples[_index(key)]
        name = f"{os.path.abspath(sample.path)}|{sample.box}"
        if name not in self._names:
            try:
                status = os.stat(sample.path)
                self._names[name] = f"{name}|{status.st_size}|{status.st_mtime_ns}"
            except (OSError, ValueError):
                self._names[name] = f"{name}|missing"
        return self._names[name], CENTRE if isinstance(key, int) else loader.view(key)

    def has(self, loader: ImageLoader, index: int) -> bool:
        """Whether any crop of an image is kept, so that it was decoded once."""
        name, _ = _plain(self.row(loader, index))
        return self._find("SELECT 1 FROM activations WHERE picture = ? LIMIT 1", (name,)) is not None

    def _read(self, rows: Sequence[Row]) -> dict[Row, Tensor]:
        found = {}
        for row in rows:
            if row in self._memory:
                found[row] = self._memory[row]
                continue
            stored = self._find("SELECT shape, value FROM activations WHERE picture = ? AND crop = ?", _plain(row))
            if stored is not None:
                found[row] = self._tensor(*stored)
                self._remember(row, found[row])
        return found

    def _find(self, query: str, values: tuple[Any, ...]) -> Any:
        try:
            return self._rows.execute(query, values).fetchone()
        except sqlite3.Error as error:
            raise self._damaged(error) from None

    def _tensor(self, shape: str, value: bytes) -> Tensor:
        try:
            return torch.from_numpy(np.frombuffer(value, dtype=np.float32).copy()).view(json.loads(shape))
        except (ValueError, TypeError, RuntimeError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> StorageError:
        return StorageError(f"{self.file}: damaged ({error}): delete it, and what it held is computed again.")

    def _keep(self, new: dict[Row, Tensor]) -> None:
        content = [
            (*_plain(row), json.dumps(list(value.shape)), value.contiguous().numpy().tobytes())
            for row, value in new.items()
        ]
        try:
            self._rows.execute("BEGIN IMMEDIATE")
            self._rows.executemany("INSERT OR IGNORE INTO activations VALUES (?, ?, ?, ?)", content)
            self._rows.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._rows.execute("ROLLBACK")
            raise StorageError(
                f"{self.file}: could not be written ({error}): free some space, or delete it if it is damaged."
            ) from None
        for row, value in new.items():
            self._remember(row, value)

    def _remember(self, row: Row, value: Tensor) -> None:
        if value.nbytes <= self.room:
            self.room -= value.nbytes
            self._memory[row] = value.clone(memory_format=torch.contiguous_format)


class _Activated(ImageLoader):
    """Images as activations. They are read in this process: workers could not share the file's connection."""

    def __init__(self, loader: ImageLoader, kept: Activations) -> None:
        options = loader.options.model_copy(update={"workers": 0})
        super().__init__(loader.samples, options, loader.train, loader.cache)
        self.kept = kept

    def check(self, index: int) -> None:
        """As in `Images`; an image of which an activation is kept was decoded once."""
        if not self.kept.has(self, index):
            super().check(index)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """One batch of activations."""
        return self.kept.batch(self, keys)


def _index(key: Key) -> int:
    return key[0] if isinstance(key, tuple) else key


def _plain(row: Row) -> Row:
    """With half characters in names of files replaced, which SQLite does not take."""
    return row[0].encode(errors="backslashreplace").decode(), row[1]


def _key(embedder: Embedder, images: ImageOptions) -> str:
    """32 hexadecimal digits of the frozen weights and of how images are prepared."""
    assert embedder.stem is not None
    fields = {"size", "resize", "scale", "flip", "views", "max_pixels"}
    described = [embedder.kind, embedder.stem.last, images.model_dump(mode="json", include=fields)]
    digest = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=16)
    for tensor in (
        embedder.mean,
        embedder.std,
        *(t for layer in embedder.stem.layers for t in layer.state_dict().values()),
    ):
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
