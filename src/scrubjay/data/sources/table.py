"""A CSV or Parquet table of image paths and labels, with the optional columns of open-metric-learning."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from scrubjay.data.sources import Source
from scrubjay.data.sources._files import folder, inside
from scrubjay.errors import DataError
from scrubjay.types import Dataset, Sample

_CORNERS = ("x_1", "y_1", "x_2", "y_2")
_SPLITS: dict[str, Literal["train", "test"]] = {"train": "train", "validation": "test", "test": "test"}
_FLAGS = {"": True, "true": True, "1": True, "false": False, "0": False}

Row = dict[str, str]


class Table(Source):
    """Columns `path` and `label`; optional `split`, `is_query`, `is_gallery` and the box `x_1`, `y_1`, `x_2`, `y_2`.

    Paths are relative to the table's folder and must not leave it. `split` is train, validation or test; without that
    column all images are training images. An empty flag means true, an empty box the whole image. Labels are ordered
    as numbers if all are whole numbers, else as text. Error messages count rows from 1, without the header.
    """

    path: Path
    """Path of the table, a `.csv` or `.parquet` file."""

    def load(self) -> Dataset:
        root = folder(self.path.parent)
        columns, rows = _read(root / self.path.name)
        missing = [name for name in ("path", "label") if name not in columns]
        if missing:
            raise DataError(f"{self.path}: no column {missing[0]!r} among {', '.join(columns)}; add or rename one.")
        if set(_CORNERS) & set(columns) and not set(_CORNERS) <= set(columns):
            raise DataError(f"{self.path}: a box needs the columns {', '.join(_CORNERS)}; add the missing ones.")
        if not rows:
            raise DataError(f"{self.path}: the table is empty; add a row for every image.")
        wheres = [f"{self.path}, row {number}" for number in range(1, len(rows) + 1)]
        classes = _classes([_label(row, where) for row, where in zip(rows, wheres, strict=True)])
        number = {name: index for index, name in enumerate(classes)}
        samples = (_sample(root, row, number[row["label"]], where) for row, where in zip(rows, wheres, strict=True))
        return Dataset(self.path.stem, root, classes, tuple(samples))


def _read(path: Path) -> tuple[list[str], list[Row]]:
    """Names of the columns, and the rows as texts: "" for a missing value."""
    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: neither .csv nor .parquet; save the table in one of these formats.")
    try:
        columns, rows = readers[path.suffix.lower()](path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the path of a table.") from None
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's errors are subclasses of these
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read ({reason}); save it again as CSV in UTF-8 or as Parquet.") from None
    return columns, [{name: _text(row.get(name)) for name in columns} for row in rows]


def _read_csv(path: Path) -> tuple[list[str], Iterable[dict[str, Any]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        return [name.strip() for name in reader.fieldnames or ()], list(reader)


def _read_parquet(path: Path) -> tuple[list[str], Iterable[dict[str, Any]]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    return table.column_names, table.to_pylist()


def _text(value: object) -> str:
    """A cell as text. Whole floats become integers again, since a column with missing values is read as floats."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    return "" if text.lower() == "nan" else text


def _label(row: Row, where: str) -> str:
    if not row["label"]:
        raise DataError(f"{where}: no label; give the class of the image or remove the row.")
    return row["label"]


def _classes(labels: Iterable[str]) -> tuple[str, ...]:
    names = set(labels)
    try:
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    except ValueError:
        return tuple(sorted(names))


def _sample(root: Path, row: Row, label: int, where: str) -> Sample:
    if not row["path"]:
        raise DataError(f"{where}: no path; give the path of the image or remove the row.")
    split = row.get("split", "train")
    if split not in _SPLITS:
        raise DataError(f"{where}: unknown split {split!r}; write one of {', '.join(_SPLITS)}.")
    return Sample(
        inside(root, row["path"], where),
        label,
        _SPLITS[split],
        _box([row.get(name, "") for name in _CORNERS], where),
        _flag(row, "is_query", where),
        _flag(row, "is_gallery", where),
    )


def _flag(row: Row, name: str, where: str) -> bool:
    text = row.get(name, "").lower().removesuffix(".0")
    if text not in _FLAGS:
        raise DataError(f"{where}: {name} is {row[name]!r}; write true or false.")
    return _FLAGS[text]


def _box(corners: list[str], where: str) -> tuple[int, int, int, int] | None:
    if not any(corners):
        return None
    try:
        left, top, right, bottom = (round(float(corner)) for corner in corners)
    except (ValueError, OverflowError):
        left = top = right = bottom = 0
    if not (0 <= left < right and 0 <= top < bottom):
        raise DataError(f"{where}: bad box {', '.join(corners)}; give left, top, right, bottom in pixels.")
    return left, top, right, bottom
