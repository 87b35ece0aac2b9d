"""The figures of runs as a table of pandas, one figure in each row. It needs the extra `pandas`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrubjay.config import read_json
from scrubjay.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("run", "method", "seed", "kind", "session", "other", "figure", "value")
MATRICES = ("accuracy", "retained", "compatibility", "bridged", "reindex")
_PLAIN = ("map", "map_at_r", "r_precision", "queries")


def results_frame(*paths: Path | str) -> DataFrame:
    """The figures of finished runs in one table, for `groupby`, `pivot_table` and plots.

    Args:
        paths: folders of runs, `result.json` files, or folders that hold such folders at any depth, such as that of
            `scrubjay compare`.

    Returns:
        A table with a row for each figure. `kind` is a group of classes ("old", "new", "seen", "unseen"), one of the
        matrices "accuracy", "retained", "compatibility", "bridged" and "reindex", or "continual" for the summary of a
        run. `session` counts from 0; `other` is the second index of a matrix, which is the session of the classes in
        "accuracy" and "retained", and the generation of the gallery in the others. `figure` is "recall@1", "map_at_r"
        and so on. What was not measured is left out.

    Raises:
        ConfigError: pandas is not installed.
        DataError: a path holds no finished run.
    """
    try:
        import pandas
    except ImportError:
        raise ConfigError("the table needs pandas: pip install 'scrubjay[pandas]'") from None
    rows = [row for path in paths for file in _files(Path(path)) for row in _rows(file)]
    frame: DataFrame = pandas.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({"other": "Int64", "session": "Int64"})


def _files(path: Path) -> list[Path]:
    files = [path] if path.name == "result.json" and path.is_file() else sorted(path.glob("**/result.json"))
    if not files:
        raise DataError(f"{path}: no finished run here; give the folder of `scrubjay run` or `scrubjay compare`.")
    return files


def _rows(file: Path) -> Iterator[tuple[Any, ...]]:
    result = read_json(file)
    try:
        run = (file.parent.name, result["method"], result["seed"])
        for session, groups in enumerate(result["groups"]):
            for group, scores in groups.items():
                for figure, value in _scores(scores or {}):
                    yield *run, group, session, None, figure, value
        for matrix in MATRICES:
            for figure, values in result[matrix].items():
                for session, row in enumerate(values):
                    for other, value in enumerate(row):
                        if value is not None:
                            yield *run, matrix, session, other, figure, float(value)
        for figure, summary in result["continual"].items():
            for name, value in summary.items():
                if value is not None:
                    yield *run, "continual", None, None, f"{name} of {figure}", float(value)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: not the result of a run ({error} is missing); run it again.") from None


def _scores(scores: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    named = {f"recall@{k}": value for k, value in scores.get("recall", {}).items()}
    named |= {name: scores.get(name) for name in _PLAIN}
    named |= {f"map@{k}": value for k, value in scores.get("map_at_k", {}).items()}
    yield from ((name, float(value)) for name, value in named.items() if value is not None)
