"""Samples from a path that a user gives: a folder, a table or a single image."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from scrubjay.data.sources.folder import Folder
from scrubjay.data.sources.table import Table
from scrubjay.errors import DataError, ImageError
from scrubjay.types import Dataset, Sample

if TYPE_CHECKING:
    from scrubjay.data.images import Box

TABLES = frozenset({".csv", ".parquet"})
_HASH_BYTES = 16


def read_photos(path: Path, test_share: float = 0.0) -> Dataset:
    """The samples of a folder with one sub-folder per class, or of a CSV or Parquet table.

    Args:
        path: the folder or table.
        test_share: share of a folder's images that become test images; a table has a column for that.

    Raises:
        DataError: the path does not exist, or the layout of the folder or table is not the expected one.
    """
    if os.path.isdir(path):  # unlike Path.is_dir, False where the system denies access
        return Folder(root=path.absolute(), test_share=test_share).load()
    if not os.path.exists(path):
        raise DataError(f"{path}: no such file or folder; check the path.")
    if path.suffix.lower() not in TABLES:
        raise DataError(f"{path}: neither a folder nor a .csv or .parquet table; give one of these.")
    return Table(path=path.absolute()).load()


def labelled(path: Path) -> list[tuple[Sample, str | None]]:
    """The samples of a folder or table with the names of their classes; the class of a single image is None.

    Raises:
        DataError: the path does not exist, or the layout of the folder or table is not the expected one.
    """
    if os.path.isfile(path) and path.suffix.lower() not in TABLES:
        return [(Sample(path.absolute(), 0), None)]
    dataset = read_photos(path)
    return [(sample, dataset.classes[sample.label]) for sample in dataset.samples]


def content_hash(sample: Sample) -> str:
    """Hash of an image file's bytes and of the box it is cropped to: 32 hexadecimal digits.

    Raises:
        ImageError: the file cannot be read.
    """
    if not os.path.isfile(sample.path):
        raise ImageError(f"{sample.path}: no such file; restore it or take it off the list.")
    digest = hashlib.blake2b(digest_size=_HASH_BYTES)
    try:
        with sample.path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    except OSError as error:
        raise ImageError(f"{sample.path}: cannot be read ({error.strerror}); check its permissions.") from None
    return _with_box(digest, sample.box)


def bytes_hash(content: bytes, box: Box | None = None) -> str:
    """The `content_hash` of a file with this content and of the box it is cropped to.

    >>> bytes_hash(b"")
    'cae66941d9efbd404e4d88758ea67670'
    """
    return _with_box(hashlib.blake2b(content, digest_size=_HASH_BYTES), box)


def _with_box(digest: hashlib.blake2b, box: Box | None) -> str:
    if box is not None:
        digest.update(repr(box).encode())
    return digest.hexdigest()
