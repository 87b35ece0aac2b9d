from __future__ import annotations

import pytest

from scrubjay import plugins
from scrubjay.data.sources import Source, source
from scrubjay.errors import ConfigError
from scrubjay.methods import Method, method


def test_names_are_the_files_of_a_role() -> None:
    assert plugins.names("methods") == sorted(plugins.names("methods"))
    assert {"finetune", "frozen", "joint", "l2", "lwf", "mmd"} <= set(plugins.names("methods"))
    assert {"aviary", "cub200", "folder", "grocery", "stanford_dogs", "table"} <= set(plugins.names("data.sources"))
    assert not any(
        name.startswith("_") for role in ("methods", "data.sources", "stores") for name in plugins.names(role)
    )


@pytest.mark.parametrize("role", ["methods", "data.sources", "stores", "losses.metric"])
def test_every_file_says_what_it_is_in_a_line(role: str) -> None:
    summaries = plugins.summaries(role)
    assert list(summaries) == plugins.names(role)
    assert all(20 < len(text) <= 120 for text in summaries.values())


@pytest.mark.parametrize("name", plugins.names("methods"))
def test_every_method_file_holds_one_method(name: str) -> None:
    found = method(name)
    assert issubclass(found, Method)
    assert found.__module__ == f"scrubjay.methods.{name}"


@pytest.mark.parametrize("name", plugins.names("data.sources"))
def test_every_source_file_holds_one_source(name: str) -> None:
    found = source(name)
    assert issubclass(found, Source)
    assert found.__module__ == f"scrubjay.data.sources.{name}"


@pytest.mark.parametrize("name", ["finetun", "", "_files", "../errors", "__init__"])
def test_an_unknown_name_lists_the_known(name: str) -> None:
    with pytest.raises(
        ConfigError,
        match=r"unknown method '.*'\.( Did you mean '\w+'\?)? Known: adversarial, affinity, .*finetune, frozen, joint",
    ):
        method(name)
    with pytest.raises(ConfigError, match=r"unknown source .*Known: .*folder"):
        source(name)


def test_a_misspelt_name_is_corrected() -> None:
    with pytest.raises(ConfigError, match=r"unknown method 'finetun'\. Did you mean 'finetune'\?"):
        plugins.load("methods", "finetun", object)
