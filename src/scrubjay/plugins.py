"""Implementations by name: the name in a config is the name of a file, so there is no registry to edit.

A role is a package (`methods`, `data.sources`, `stores`, `bridges`, `losses.metric`); every public module in it is one
implementation. A module defines exactly one public subclass of the base class of its role; a metric loss, which has no
state, is a function with the name of its module.
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
    """Names of all implementations of a role, sorted; none is imported.

    >>> "folder" in names("data.sources")
    True
    """
    package = importlib.resources.files("scrubjay").joinpath(*role.split("."))
    return sorted(module.name for module in pkgutil.iter_modules([str(package)]) if not module.name.startswith("_"))


def summaries(role: str) -> dict[str, str]:
    """First line of each implementation's module docstring, by name; none is imported."""
    return {name: text.partition("\n")[0] for name, text in documentation(role).items()}


def documentation(role: str) -> dict[str, str]:
    """Each implementation's module docstring, by name; none is imported."""
    package = importlib.resources.files("scrubjay").joinpath(*role.split("."))
    docstrings = {}
    for name in names(role):
        source = package.joinpath(f"{name}.py").read_text(encoding="utf-8")
        docstrings[name] = ast.get_docstring(ast.parse(source)) or ""
    return docstrings


def load(role: str, name: str, base: type[Any]) -> type[Any]:
    """Import the implementation `name` of a role and return its class.

    Args:
        role: name of the package below `scrubjay`.
        name: name of the module.
        base: base class of the role.

    Raises:
        ConfigError: there is no implementation of this name; the known names are listed.
    """
    if name not in names(role):
        singular = role.rpartition(".")[2].removesuffix("s")
        raise ConfigError(f"unknown {singular} {name!r}.{closest(name, names(role))} Known: {', '.join(names(role))}.")
    module = importlib.import_module(f"scrubjay.{role}.{name}")
    (implementation,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
    )
    return implementation


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
