"""A recipe: one TOML file for one run or for many. A table `[methods.NAME]` counts only where NAME is the method."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scrubjay import plugins
from scrubjay.config import override, read_toml
from scrubjay.errors import ConfigError
from scrubjay.experiments.run import ExperimentOptions


@dataclass(frozen=True, slots=True)
class Entry:
    """A method to run, with settings of its own.

    Attributes:
        name: of the method.
        settings: `key=value`, of the method's options; they come after all others.
    """

    name: str
    settings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What tells it from the other entries: `mmd`, or `mmd:alpha=0`."""
        return ":".join((self.name, *self.settings))


def read(path: Path, settings: Iterable[str] = ()) -> dict[str, Any]:
    """What stands in a recipe, with `settings` on top; its name is that of the file unless it says another.

    Raises:
        ConfigError: the file is missing or is not TOML, or a setting is not `key=value`.
    """
    return override({"name": path.stem, **read_toml(path)}, settings)


def entries(text: str) -> list[Entry]:
    """The methods in a list such as `finetune,mmd,mmd:alpha=0:beta=2`.

    >>> [entry.label for entry in entries("lwf, mmd:alpha=0:average=0.5")]
    ['lwf', 'mmd:alpha=0:average=0.5']

    Raises:
        ConfigError: the list is empty, or an entry is no `NAME` or `NAME:KEY=VALUE`.
    """
    listed = [part.strip() for part in re.split(r",(?![^\[{]*[\]}])", text)]  # not the commas of a list or table
    if not all(listed):
        raise ConfigError(f"--methods {text!r}: name the methods with commas between them, for instance finetune,mmd.")
    return [_entry(part) for part in listed]


def _entry(text: str) -> Entry:
    name, *settings = re.split(r":(?=[\w.-]+=)", text)  # a colon may stand in a value too
    if ":" in name or "=" in name:
        raise ConfigError(f"--methods {text}: write it as NAME or NAME:KEY=VALUE, for instance mmd:alpha=0.")
    return Entry(name, tuple(settings))


def seeds_in(text: str) -> list[int]:
    """The seeds in a list such as `0,1,2`.

    Raises:
        ConfigError: something in it is no seed, or is there twice.
    """
    listed = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in listed) or len(set(map(int, listed))) < len(listed):
        raise ConfigError(f"--seeds {text!r}: give different whole numbers from 0 on, for instance 0,1,2.")
    return [int(part) for part in listed]


def refuse_taken(settings: Iterable[str]) -> None:
    """Refuse what a comparison sets itself.

    Raises:
        ConfigError: a setting is of the seed or of the method.
    """
    for setting in settings:
        if re.match(r"(seed|method)\b", setting.strip()):
            raise ConfigError(f"--set {setting}: give --seeds, and options of a method as --methods NAME:KEY=VALUE.")


def own_entry(values: Mapping[str, Any], settings: Iterable[str] = ()) -> Entry | None:
    """The method that a recipe itself names, and what `settings` say of it; None when it names none as it should."""
    table = values.get("method", ExperimentOptions.model_fields["method"].default)
    name = table.get("name") if isinstance(table, Mapping) else None
    mine = (setting.strip().removeprefix("method.") for setting in settings if setting.strip().startswith("method."))
    return Entry(name, tuple(mine)) if isinstance(name, str) else None


def resolve(values: Mapping[str, Any], entry: Entry | None) -> dict[str, Any]:
    """What `ExperimentOptions` takes: the values of a recipe without its `methods`, with the method of `entry`.

    A method's options come from `[method]` where that is the same method, then from `[methods.NAME]`, then from the
    entry's own settings; the later ones win.

    >>> resolve({"method": {"name": "mmd", "alpha": 1}, "methods": {"mmd": {"beta": 2}}}, Entry("mmd", ("alpha=0",)))
    {'method': {'name': 'mmd', 'alpha': 0, 'beta': 2}}

    Args:
        values: of a recipe.
        entry: the method; None leaves the recipe's own as it is.

    Raises:
        ConfigError: `methods` holds something else than tables of options by the names of methods.
    """
    rest = {key: value for key, value in values.items() if key != "methods"}
    tables = _tables(values.get("methods", {}))
    if entry is None:
        return rest
    own = rest.get("method")
    same = own if isinstance(own, Mapping) and own.get("name") == entry.name else {}
    options = override({"name": entry.name, **same, **tables.get(entry.name, {})}, entry.settings)
    return {**rest, "method": {**options, "name": entry.name}}


def _tables(found: Any) -> Mapping[str, Mapping[str, Any]]:
    known = plugins.names("methods")
    if not isinstance(found, Mapping):
        raise ConfigError(f"methods = {found!r}: write tables of options, for instance [methods.mmd].")
    for name, table in found.items():
        if name not in known:
            raise ConfigError(f"[methods.{name}]: there is no such method. Known: {', '.join(known)}.")
        if not isinstance(table, Mapping):
            raise ConfigError(f"methods.{name} = {table!r}: write a table of its options, [methods.{name}].")
    return found
