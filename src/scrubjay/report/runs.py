"""Groups of results: which runs differ only in their seeds, and which settings distinguish the others."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from scrubjay.errors import ConfigError

Result = Mapping[str, Any]
"""The contents of a `result.json`."""


def number(value: Any) -> float | None:
    """A finite float; None for null and NaN, which mean "not measured"."""
    return float(value) if value is not None and math.isfinite(value) else None


def by_method(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Group runs that differ only in their seeds, by a label that distinguishes the groups; the order is kept.

    Raises:
        ConfigError: there are no results, or one run appears twice: seeds would be counted that were not run.
    """
    if not results:
        raise ConfigError("no results to report: give at least one result.json.")
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[Result]] = defaultdict(list)
    for result in results:
        group = groups[result["method"], tuple(sorted(settings(result).items()))]
        if _seeds(result) in map(_seeds, group):
            raise ConfigError(
                f"{result['method']} with seed {result['seed']} is there twice: leave one of the two out."
            )
        group.append(result)
    return {_label(method, dict(values), groups): group for (method, values), group in groups.items()}


def _label(method: str, values: Mapping[str, str], groups: Iterable[tuple[str, Iterable[tuple[str, str]]]]) -> str:
    """Name of a method, with the settings in which it differs from other groups of the same method."""
    rivals = [dict(settings) for name, settings in groups if name == method]
    keys = sorted({key for rival in rivals for key in rival})
    differing = [key for key in keys if len({rival.get(key) for rival in rivals}) > 1]
    shown = ", ".join(f"{key.rpartition('.')[2]}={values.get(key, 'unset')}" for key in differing)
    return f"{method} ({shown})" if shown else method


def settings(result: Result) -> dict[str, str]:
    """The config of a run by dotted key, without the name of the run and without its seeds."""
    return {key: value for key, value in _flat(result.get("config") or {}) if key != "name" and not _is_seed(key)}


def _seeds(result: Result) -> list[tuple[str, str]]:
    config = _flat(result.get("config") or {})
    return [("", str(result["seed"])), *((key, value) for key, value in config if _is_seed(key))]


def _is_seed(key: str) -> bool:
    return key.rpartition(".")[2] == "seed"


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and values, as text, of nested tables."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def hashes(result: Result) -> list[str]:
    """The hashes of the images learned from: one for the whole run, or one for each session."""
    value = result["data"]["hash"]
    return [value] if isinstance(value, str) else list(value)
