"""Options as frozen pydantic models: unknown keys are refused by name; `--set key=value` overrides TOML files."""

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
    """Base class of all options. Use `parse` for values that come from a user."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "options") -> Self:
        """Validate `values`; `where` names their origin in messages.

        Raises:
            ConfigError: a key is unknown (the known ones are listed) or a value is out of range.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(explain(cls, error, where)) from None


def explain(cls: type[BaseModel], error: ValidationError, where: str) -> str:
    """A one-line message on the first problem of a validation: the key, the value, and the allowed values."""
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
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: cannot be read as JSON ({error}); check the path, or restore the file from a copy."
        ) from None
    return content


def override(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """A copy of `values` with every setting `dotted.key=value` applied; a value that is not TOML is taken as text.

    >>> override({"training": {"epochs": 4}}, ["training.epochs=8", "method.name=mmd"])
    {'training': {'epochs': 8}, 'method': {'name': 'mmd'}}

    Raises:
        ConfigError: a setting has no `=`, or a part of its key is a value and not a table.
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


def difference(stored: Mapping[str, Any], given: Mapping[str, Any], prefix: str = "") -> str | None:
    """The first option that differs between two resolved configurations, with both values; None if they are equal.

    >>> difference({"training": {"epochs": 4}}, {"training": {"epochs": 8}})
    'training.epochs (4, now 8)'
    """
    for key in sorted({*stored, *given}):
        before, now = stored.get(key), given.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            nested = difference(before, now, f"{prefix}{key}.")
            if nested is not None:
                return nested
        elif before != now:
            return f"{prefix}{key} ({before!r}, now {now!r})"
    return None
