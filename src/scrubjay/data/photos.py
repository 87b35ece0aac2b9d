"""What a user names, a folder, a table or a picture, to samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from scrubjay.data.sources.folder import Folder
from scrubjay.data.sources.table import Table
from scrubjay.errors import DataError
from scrubjay.types import Dataset, Sample


def read_photos(path: Path, test_share: float = 0.0) -> Dataset:
    """The samples of a folder with a sub-folder a class, or of a CSV or Parquet table.

    Raises:
        DataError: neither is there, or it is not as needed.
    """
    if path.is_dir():
        return Folder(root=path.absolute(), test_share=test_share).load()
    if path.suffix.lower() in {".csv", ".parquet"}:
        return Table(path=path.absolute()).load()
    if path.exists():
        raise DataError(f"{path}: neither a folder nor a .csv or .parquet table; give one of these.")
    raise DataError(f"{path}: no such folder or table; check the path.")


def entries(path: Path) -> Iterator[tuple[Sample, str | None, str]]:
    """Samples of a folder, table or single picture, with the name of their class and the hash of their content.

    Raises:
        DataError: the path, or a file that it names, cannot be read.
    """
    if path.is_file() and path.suffix.lower() not in {".csv", ".parquet"}:
        yield Sample(path.absolute(), 0), None, content_hash(path)
        return
    dataset = read_photos(path)
    for sample in dataset.samples:
        yield sample, dataset.classes[sample.label], content_hash(sample.path, sample.box)


def content_hash(path: Path, box: tuple[int, int, int, int] | None = None) -> str:
    """32 hexadecimal digits for the bytes of a picture and the box it is cropped to.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        digest = hashlib.blake2b(path.read_bytes(), digest_size=16)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore it or take it off the list.") from None
    if box is not None:
        digest.update(repr(box).encode())
    return digest.hexdigest()
