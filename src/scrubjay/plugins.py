"""Roles and their implementations: the name in a config is the name of a file. There is no registry to edit.

A role is a package (`methods`, `data.sources`, `stores`) whose `__init__` defines the role's base class;
every module in it is one implementation, and holds exactly one public subclass of that base.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.resources
import pkgutil
from typing import Any

from scrubjay.errors import ConfigError


def names(role: str) -> list[str]:
    """Names of all implementations of a role, sorted, without importing them.

    >>> "folder" in names("data.sources")
    True
    """
    package = importlib.resources.files("scrubjay").joinpath(*role.split("."))
    return sorted(module.name for module in pkgutil.iter_modules([str(package)]) if not module.name.startswith("_"))


def summaries(role: str) -> dict[str, str]:
    """First line of each implementation's module docstring, read without importing it."""
    return {name: text.partition("\n")[0] for name, text in documentation(role).items()}


def documentation(role: str) -> dict[str, str]:
    """Each implementation's module docstring, read without importing it."""
    package = importlib.resources.files("scrubjay").joinpath(*role.split("."))
    found = {}
    for name in names(role):
        source = package.joinpath(f"{name}.py").read_text(encoding="utf-8")
        found[name] = ast.get_docstring(ast.parse(source)) or ""
    return found


def load(role: str, name: str, base: type[Any]) -> type[Any]:
    """The class in the file `name` of a role.

    Raises:
        ConfigError: there is no such file; the known names are listed.
    """
    if name not in names(role):
        near = difflib.get_close_matches(name, names(role), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        what = role.rpartition(".")[2].removesuffix("s")
        raise ConfigError(f"unknown {what} {name!r}.{hint} Known: {', '.join(names(role))}.")
    module = importlib.import_module(f"scrubjay.{role}.{name}")
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
    )
    return found
