from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import scrubjay

MODULES = [
    module.name
    for module in pkgutil.walk_packages(scrubjay.__path__, "scrubjay.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0
