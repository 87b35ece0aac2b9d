"""A cache on disk for the activations of the network's frozen part: computed once for all epochs and runs.

Each file belongs to one frozen part and one way to preprocess images: its name is a hash of the weights and the
options. A row holds one crop of one image, which is identified by its path, size and modification time. Processes may
share a file, and a process that is killed leaves it intact.
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
"""The crop number of the centre crop; random crops are numbered by their seed."""

Row = tuple[str, int]
"""Key of an activation: identity of the image, and crop."""


class Activations:
    """Cached activations of the frozen part of one embedder.

    They are computed batch invariant (see `Stem`), so an activation has the same bits whichever process computed it,
    and in whichever batch.

    Args:
        folder: folder of the file; several embedders may share it.
        embedder: an embedder with a frozen part (`network.frozen`).
        images: how images are preprocessed. Random crops are cached only when `images.views` limits their number.

    Raises:
        StorageError: the folder cannot be written, or the file is not one of these.
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
            # the column that identifies the image keeps the name it has in existing files
            self._rows.execute(
                "CREATE TABLE IF NOT EXISTS activations "
                "(picture TEXT, crop INTEGER, shape TEXT, value BLOB, PRIMARY KEY (picture, crop)) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise StorageError(
                f"{self.file}: cannot be used ({error}): check the folder, free some space, or delete the file."
            ) from None

    def of(self, loader: ImageLoader) -> ImageLoader:
        """A loader of the same images whose batches hold activations float32 (B, …) in place of pixels."""
        return _Activated(loader, self)

    def batch(self, loader: ImageLoader, keys: Sequence[Key]) -> Batch:
        """One batch, in the order of its keys; activations that are not cached yet are computed."""
        rows = [self.row(loader, key) for key in keys]
        activations = self._read(rows)
        missing = [position for position, row in enumerate(rows) if row not in activations]
        failures: tuple[tuple[str, str], ...] = ()
        if missing:
            new, failures = self._compute(loader, {rows[position]: keys[position] for position in missing})
            if not loader.train or loader.options.views is not None:  # else the crop never comes again
                self._keep(new)
            activations |= new
        good = [position for position, row in enumerate(rows) if row in activations]
        indices = [_index(keys[position]) for position in good]
        return Batch(
            torch.stack([activations[rows[position]] for position in good]) if good else torch.empty(0, 3, 1, 1),
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
        images = loaded.images.to(self.embedder.mean.device)
        values = self.embedder.prepare(images, batch_invariant=True).cpu()
        return dict(zip(rows, values, strict=True)), loaded.failures

    def row(self, loader: ImageLoader, key: Key) -> Row:
        """The key under which the activation of an image and crop is stored."""
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
        """Whether any crop of an image is cached, so that the image is known to be decodable."""
        name, _ = _plain(self.row(loader, index))
        return self._find("SELECT 1 FROM activations WHERE picture = ? LIMIT 1", (name,)) is not None

    def _read(self, rows: Sequence[Row]) -> dict[Row, Tensor]:
        activations = {}
        for row in rows:
            if row in self._memory:
                activations[row] = self._memory[row]
                continue
            stored = self._find("SELECT shape, value FROM activations WHERE picture = ? AND crop = ?", _plain(row))
            if stored is not None:
                activations[row] = self._tensor(*stored)
                self._hold_in_memory(row, activations[row])
        return activations

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
        return StorageError(f"{self.file}: damaged ({error}): delete it, and its activations are computed again.")

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
            self._hold_in_memory(row, value)

    def _hold_in_memory(self, row: Row, value: Tensor) -> None:
        if value.nbytes <= self.room:
            self.room -= value.nbytes
            self._memory[row] = value.clone(memory_format=torch.contiguous_format)


class _Activated(ImageLoader):
    """A loader that delivers activations, in this process: workers cannot share the database connection."""

    def __init__(self, loader: ImageLoader, activations: Activations) -> None:
        options = loader.options.model_copy(update={"workers": 0})
        super().__init__(loader.samples, options, loader.train, loader.cache)
        self.activations = activations

    def check(self, index: int) -> None:
        """As `ImageLoader.check`, but an image with a cached activation is not decoded again."""
        if not self.activations.has(self, index):
            super().check(index)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """One batch of activations."""
        return self.activations.batch(self, keys)


def _index(key: Key) -> int:
    return key[0] if isinstance(key, tuple) else key


def _plain(row: Row) -> Row:
    """The key with lone surrogates in the file name escaped, which SQLite cannot store."""
    return row[0].encode(errors="backslashreplace").decode(), row[1]


def _key(embedder: Embedder, images: ImageOptions) -> str:
    """Hash of the frozen weights and of how images are preprocessed: 32 hexadecimal digits."""
    assert embedder.stem is not None
    fields = {"size", "resize", "scale", "flip", "views", "max_pixels"}
    description = [embedder.kind, embedder.stem.last, images.model_dump(mode="json", include=fields)]
    digest = hashlib.blake2b(json.dumps(description, sort_keys=True).encode(), digest_size=16)
    for tensor in (
        embedder.mean,
        embedder.std,
        *(t for layer in embedder.stem.layers for t in layer.state_dict().values()),
    ):
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
