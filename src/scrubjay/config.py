"""Options: frozen values, unknown keys refused by name, TOML files with `--set key=value` on top."""

from __future__ import annotations

import copy
import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from scrubjay.errors import ConfigError


class Config(BaseModel):
    """Base of all options. Construct with `parse` when the values come from a user."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "options") -> Self:
        """Validate `values`.

        Raises:
            ConfigError: a key is unknown (the known ones are listed) or a value is out of range.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(explain(cls, error, where)) from None


def explain(cls: type[BaseModel], error: ValidationError, where: str) -> str:
    """One line for the first problem of a validation: the key, the value, and what would be right."""
    problem = error.errors(include_url=False)[0]
    # pydantic names the branches of a union in the path of a key: constrained-int, tuple[…], function-…
    key = ".".join(str(part) for part in problem["loc"] if re.fullmatch(r"\w+", str(part)))
    if problem["type"] == "extra_forbidden":
        known = sorted(_model_at(cls, problem["loc"][:-1]).model_fields)
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{where}: unknown key {key!r}.{hint} Known keys: {', '.join(known)}."
    if problem["type"] == "missing":
        return f"{where}: key {key!r} is missing; add it."
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {key} = {problem['input']!r}: {message}." if key else f"{where}: {message}."


def _model_at(cls: type[BaseModel], path: Iterable[int | str]) -> type[BaseModel]:
    for part in path:
        info = cls.model_fields.get(str(part))
        candidates = () if info is None else (info.annotation, *get_args(info.annotation))
        for candidate in candidates:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                cls = candidate
    return cls


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: the file is missing or is not TOML (line and column are named).
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give the path of a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}.") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ConfigError: the file is missing or is not JSON.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error}); give the folder that holds it.") from None
    return found


def override(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """A copy of `values` with every `dotted.key=value` set; the value is read as TOML, else taken as text.

    >>> override({"training": {"epochs": 4}}, ["training.epochs=8", "method.name=mmd"])
    {'training': {'epochs': 8}, 'method': {'name': 'mmd'}}

    Raises:
        ConfigError: a setting has no `=`, or goes through a value that is no table.
    """
    result = copy.deepcopy(dict(values))
    for setting in settings:
        dotted, equals, text = setting.partition("=")
        if not equals or not dotted.strip():
            raise ConfigError(f"--set {setting}: write it as key=value, for instance training.epochs=8.")
        *path, last = dotted.strip().split(".")
        table = result
        for part in path:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {setting}: {part!r} is a value, not a table of options.")
        table[last] = _value(text.strip())
    return result


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def difference(theirs: Mapping[str, Any], mine: Mapping[str, Any], prefix: str = "") -> str | None:
    """The first option that differs between two resolved configurations, with both values; None when they are equal.

    >>> difference({"training": {"epochs": 4}}, {"training": {"epochs": 8}})
    'training.epochs (4, now 8)'
    """
    for key in sorted({*theirs, *mine}):
        one, other = theirs.get(key), mine.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            deeper = difference(one, other, f"{prefix}{key}.")
            if deeper is not None:
                return deeper
        elif one != other:
            return f"{prefix}{key} ({one!r}, now {other!r})"
    return None
