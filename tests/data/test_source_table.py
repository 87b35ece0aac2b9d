from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from scrubjay.data.sources import source
from scrubjay.data.sources.table import Table
from scrubjay.errors import DataError
from scrubjay.types import Dataset, Sample

Load = Callable[..., Dataset]
BOX = {"x_1": 1, "y_1": 2, "x_2": 11, "y_2": 12}


def write_csv(path: Path, columns: dict[str, list[Any]]) -> Path:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    path = path.with_suffix(".csv")
    path.write_text(text.getvalue(), encoding="utf-8-sig")
    return path


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    path = path.with_suffix(".parquet")
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.fixture(params=[write_csv, write_parquet], ids=["csv", "parquet"])
def load(request: pytest.FixtureRequest, tmp_path: Path) -> Load:
    def loaded(**columns: list[Any]) -> Dataset:
        return Table(path=request.param(tmp_path / "toys", columns)).load()

    return loaded


def test_path_and_label(load: Load, tmp_path: Path) -> None:
    dataset = load(path=["b/1.jpg", "a/1.jpg", str(tmp_path / "a" / "2.jpg")], label=["pear", "apple", "apple"])
    assert (dataset.name, dataset.root, dataset.classes) == ("toys", tmp_path, ("apple", "pear"))
    assert dataset.samples == (
        Sample(tmp_path / "b" / "1.jpg", 1),
        Sample(tmp_path / "a" / "1.jpg", 0),
        Sample(tmp_path / "a" / "2.jpg", 0),
    )


def test_numbers_are_ordered_as_numbers(load: Load) -> None:
    dataset = load(path=["1.jpg", "2.jpg", "3.jpg"], label=[10, 9, 10])
    assert dataset.classes == ("9", "10")
    assert [sample.label for sample in dataset.samples] == [1, 0, 1]
    assert load(path=["1.jpg", "2.jpg"], label=["10", "9a"]).classes == ("10", "9a")
    assert load(path=["1.jpg", "2.jpg", "3.jpg"], label=["01", "1", "2"]).classes == ("01", "1", "2")


def test_columns_of_open_metric_learning(load: Load) -> None:
    dataset = load(
        path=["1.jpg", "2.jpg", "3.jpg", "4.jpg"],
        label=[1, 1, 2, 2],
        category=["x", "x", "y", "y"],
        split=["train", "validation", "validation", "test"],
        is_query=[None, True, False, True],
        is_gallery=[None, False, True, None],
        x_1=[1.0, None, 0.0, None],
        y_1=[2.4, None, 0.0, None],
        x_2=[11.6, None, 5.0, None],
        y_2=[12.0, None, 6.0, None],
    )
    assert [sample.split for sample in dataset.samples] == ["train", "test", "test", "test"]
    assert [sample.query for sample in dataset.samples] == [True, True, False, True]
    assert [sample.gallery for sample in dataset.samples] == [True, False, True, True]
    assert [sample.box for sample in dataset.samples] == [(1, 2, 12, 12), None, (0, 0, 5, 6), None]


def test_numbers_that_missing_values_turned_into_floats(load: Load, tmp_path: Path) -> None:
    nan = float("nan")
    dataset = load(path=["1.jpg", "2.jpg", "3.jpg"], label=["3", "20", "3"], is_query=[nan, 1.0, 0.0])
    assert dataset.classes == ("3", "20")
    assert [sample.query for sample in dataset.samples] == [True, True, False]


def test_whole_floats_of_parquet_are_whole_numbers(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "toys", {"path": ["1.jpg", "2.jpg"], "label": [20.0, 3.0]})
    assert Table(path=path).load().classes == ("3", "20")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["1.jpg"], "klass": ["a"]}, "no column 'label' among path, klass; add or rename one"),
        ({"file": ["1.jpg"], "label": ["a"]}, "no column 'path' among file, label"),
        ({"path": [], "label": []}, "the table is empty; add a row for every image"),
        ({"path": ["1.jpg", "2.jpg"], "label": ["a", None]}, "row 2: no label; give the class of the image"),
        ({"path": ["1.jpg", "2.jpg"], "label": [1.0, float("nan")]}, "row 2: no label"),
        ({"path": ["1.jpg", None], "label": ["a", "b"]}, "row 2: no path; give the path of the image"),
        (
            {"path": ["1.jpg", "../2.jpg"], "label": ["a", "b"]},
            r"row 2: path '\.\./2\.jpg' leads out of .*; use a path inside",
        ),
        ({"path": ["a/../../2.jpg"], "label": ["a"]}, "row 1: path .* leads out of"),
        ({"path": ["/etc/passwd"], "label": ["a"]}, "row 1: path '/etc/passwd' leads out of"),
        (
            {"path": ["1.jpg"], "label": ["a"], "split": ["dev"]},
            "row 1: unknown split 'dev'; write one of train, validation,",
        ),
        ({"path": ["1.jpg"], "label": ["a"], "split": [None]}, "row 1: unknown split ''"),
        ({"path": ["1.jpg"], "label": ["a"], "is_query": ["maybe"]}, "row 1: is_query is 'maybe'; write true or false"),
        (
            {"path": ["1.jpg"], "label": ["a"], "x_1": [1]},
            "a box needs the columns x_1, y_1, x_2, y_2; add the missing",
        ),
    ],
)
def test_what_is_wrong_with_a_table(load: Load, columns: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(**columns)


@pytest.mark.parametrize(
    "wrong",
    [{"x_2": 1}, {"y_1": 12}, {"x_1": -1}, {"x_1": None}, {"y_2": "wide"}, {"y_2": float("inf")}, {"x_1": "nan"}],
)
def test_bad_box(load: Load, wrong: dict[str, Any]) -> None:
    columns = {"path": ["1.jpg"], "label": ["a"], **{name: [value] for name, value in (BOX | wrong).items()}}
    with pytest.raises(DataError, match=r"row 1: bad box .*; give left, top, right, bottom in pixels"):
        load(**columns)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"path,label\n\xff\xfe,1\n", "cannot be read .*; save it again as CSV in UTF-8 or as Parquet"),
        ("x.csv", b'path,label\n"1.jpg,1\n', "cannot be read"),
        ("x.csv", b"", "no column 'path'"),
        ("x.parquet", b"PAR1 not really", "cannot be read"),
        ("x.xlsx", b"", "neither .csv nor .parquet; save the table in one of these"),
    ],
)
def test_no_table(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        Table(path=tmp_path / name).load()
    assert "\n" not in str(caught.value)


def test_rows_of_other_lengths(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("path,label\n1.jpg,a,surplus\n2.jpg\n")
    with pytest.raises(DataError, match="row 2: no label"):
        Table(path=path).load()


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv: no such file; give the path of a table"):
        Table(path=tmp_path / "gone.csv").load()
    with pytest.raises(DataError, match="no such folder"):
        Table(path=tmp_path / "gone" / "x.csv").load()


def test_found_by_name() -> None:
    assert source("table") is Table
