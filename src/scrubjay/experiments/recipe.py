"""Recipes: one TOML file for one run or many. A table `[methods.NAME]` applies only where NAME is the method."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scrubjay import plugins
from scrubjay.config import override, read_toml
from scrubjay.errors import ConfigError
from scrubjay.experiments.options import DEFAULT_METHOD

SHARED = ("network", "training")
"""Tables of a recipe that one entry of a comparison may override, to compare networks as well as methods."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A method of a comparison, with settings of its own.

    Attributes:
        name: name of the method.
        settings: options of the method as `key=value`, or of the network or its training as in `network.frozen=none`;
            they override all others.
    """

    name: str
    settings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name and settings as the user gives them: `mmd`, or `mmd:alpha=0`."""
        return ":".join((self.name, *self.settings))


def read(path: Path, settings: Iterable[str] = ()) -> dict[str, Any]:
    """The contents of a recipe, overridden by `settings`; its `name` is by default that of the file.

    Raises:
        ConfigError: the file is missing or is not TOML, or a setting is not `key=value`.
    """
    return override({"name": path.stem, **read_toml(path)}, settings)


def entries(text: str) -> list[Entry]:
    """Parse a list of methods such as `finetune,mmd,mmd:alpha=0:beta=2`.

    >>> [entry.label for entry in entries("lwf, mmd:alpha=0:average=0.5")]
    ['lwf', 'mmd:alpha=0:average=0.5']

    Raises:
        ConfigError: the list is empty, or an entry is not `NAME` or `NAME:KEY=VALUE`.
    """
    listed = [part.strip() for part in re.split(r",(?![^\[{]*[\]}])", text)]  # no comma inside of a list or table
    if not all(listed):
        raise ConfigError(f"--methods {text!r}: name the methods with commas between them, for instance finetune,mmd.")
    return [_entry(part) for part in listed]


def _entry(text: str) -> Entry:
    name, *settings = re.split(r":(?=[\w.-]+=)", text)  # a colon may stand in a value too
    if ":" in name or "=" in name:
        raise ConfigError(f"--methods {text}: write it as NAME or NAME:KEY=VALUE, for instance mmd:alpha=0.")
    return Entry(name, tuple(settings))


def seeds_in(text: str) -> list[int]:
    """Parse a list of seeds such as `0,1,2`.

    Raises:
        ConfigError: a part is not a whole number from 0 on, or appears twice.
    """
    listed = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in listed) or len(set(map(int, listed))) < len(listed):
        raise ConfigError(f"--seeds {text!r}: give different whole numbers from 0 on, for instance 0,1,2.")
    return [int(part) for part in listed]


def refuse_taken(settings: Iterable[str]) -> None:
    """Refuse settings that a comparison makes itself.

    Raises:
        ConfigError: a setting is for the seed or the method.
    """
    for setting in settings:
        if re.match(r"(seed|method)\b", setting.strip()):
            raise ConfigError(f"--set {setting}: give --seeds, and options of a method as --methods NAME:KEY=VALUE.")


def own_entry(values: Mapping[str, Any], settings: Iterable[str] = ()) -> Entry | None:
    """The method that a recipe itself sets, or the default one, with the `settings` that are options of it.

    Returns:
        None where `method` is not a table with a name.
    """
    table = values.get("method", {"name": DEFAULT_METHOD})
    name = table.get("name") if isinstance(table, Mapping) else None
    if not isinstance(name, str):
        return None
    stripped = (setting.strip() for setting in settings)
    return Entry(name, tuple(each.removeprefix("method.") for each in stripped if each.startswith("method.")))


def resolve(values: Mapping[str, Any], entry: Entry | None) -> dict[str, Any]:
    """The values that `ExperimentOptions` parses: a recipe without its `methods`, with the method of `entry`.

    A method's options come from `[method]` where that is the same method, then from `[methods.NAME]`, then from the
    entry's own settings; later ones override earlier ones. Settings of an entry that begin with the name of one of
    `SHARED` override that table of the recipe for this entry.

    >>> resolve({"method": {"name": "mmd", "alpha": 1}, "methods": {"mmd": {"beta": 2}}}, Entry("mmd", ("alpha=0",)))
    {'method': {'name': 'mmd', 'alpha': 0, 'beta': 2}}
    >>> resolve({"network": {"frozen": "blocks.5"}}, Entry("joint", ("network.frozen=none",)))
    {'network': {'frozen': 'none'}, 'method': {'name': 'joint'}}

    Args:
        values: contents of a recipe.
        entry: the method; None leaves the recipe's own unchanged.

    Raises:
        ConfigError: `methods` is not a table that holds a table of options for each method.
    """
    rest = {key: value for key, value in values.items() if key != "methods"}
    tables = _tables(values.get("methods", {}))
    if entry is None:
        return rest
    own = rest.get("method")
    same = own if isinstance(own, Mapping) and own.get("name") == entry.name else {}
    shared = [setting for setting in entry.settings if setting.split(".")[0] in SHARED]
    own_settings = [setting for setting in entry.settings if setting not in shared]
    options = override({"name": entry.name, **same, **tables.get(entry.name, {})}, own_settings)
    return {**override(rest, shared), "method": {**options, "name": entry.name}}


def _tables(methods: Any) -> Mapping[str, Mapping[str, Any]]:
    known = plugins.names("methods")
    if not isinstance(methods, Mapping):
        raise ConfigError(f"methods = {methods!r}: write tables of options, for instance [methods.mmd].")
    for name, table in methods.items():
        if name not in known:
            raise ConfigError(f"[methods.{name}]: there is no such method. Known: {', '.join(known)}.")
        if not isinstance(table, Mapping):
            raise ConfigError(f"methods.{name} = {table!r}: write a table of its options, [methods.{name}].")
    return methods
