"""Roles and their implementations: the name in a config is the name of a file. There is no registry to edit.

A role is a package (`methods`, `data.sources`, `stores`, `losses.metric`); every module in it is one implementation,
except those whose name begins with an underscore. A module holds exactly one public subclass of the base class that the
package's `__init__` defines; a metric loss, which needs no state, is a function with the name of its module.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.resources
import pkgutil
from collections.abc import Callable, Iterable
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
        what = role.rpartition(".")[2].removesuffix("s")
        raise ConfigError(f"unknown {what} {name!r}.{closest(name, names(role))} Known: {', '.join(names(role))}.")
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


def load_function(role: str, name: str) -> Callable[..., Any]:
    """The function that bears its file's name, of a role whose implementations are functions.

    >>> load_function("losses.metric", "triplet").__name__
    'triplet'
    """
    function: Callable[..., Any] = getattr(importlib.import_module(f"scrubjay.{role}.{name}"), name)
    return function


def closest(name: str, known: Iterable[str]) -> str:
    """A hint, with a leading space, at the known name that resembles `name` most; empty where none does.

    >>> closest("triplets", ["supcon", "triplet"])
    " Did you mean 'triplet'?"
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
