from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from scrubjay.config import Config, override, read_json, read_toml
from scrubjay.errors import ConfigError


class Inner(Config):
    epochs: int = Field(4, ge=0)
    """Passes."""
    groups: tuple[tuple[str, ...], ...] | int = 1
    """A union."""


class Outer(Config):
    seed: int
    """Of everything."""
    training: Inner = Inner()
    """A table."""
    maybe: Inner | None = None
    """Perhaps a table."""

    @model_validator(mode="after")
    def _odd(self) -> Outer:
        if self.seed == 13:
            raise ValueError("seed 13 brings no luck; take 12")
        return self


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1, "seed": 1}, "here: unknown key 'sed'. Did you mean 'seed'? Known keys: maybe, seed, training."),
        ({"seed": 1, "zzz": 1}, "here: unknown key 'zzz'. Known keys: maybe, seed, training."),
        (
            {"seed": 1, "training": {"epoch": 1}},
            "here: unknown key 'training.epoch'. Did you mean 'epochs'? Known keys: epochs, groups.",
        ),
        (
            {"seed": 1, "maybe": {"epoch": 1}},
            "here: unknown key 'maybe.epoch'. Did you mean 'epochs'? Known keys: epochs, groups.",
        ),
        ({}, "here: key 'seed' is missing; add it."),
        (
            {"seed": 1, "training": {"epochs": -2}},
            "here: training.epochs = -2: Input should be greater than or equal to 0.",
        ),
        ({"seed": 13}, "here: seed 13 brings no luck; take 12."),
    ],
)
def test_a_mistake_is_one_line_that_names_it(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Outer.parse(values, "here")
    assert str(caught.value) == message


def test_branches_of_a_union_are_no_part_of_the_key() -> None:
    with pytest.raises(ConfigError, match=r"here: training\.groups(\.0)? = "):
        Outer.parse({"seed": 1, "training": {"groups": "x"}}, "here")


def test_options_are_frozen_and_documented() -> None:
    options = Outer.parse({"seed": 1})
    with pytest.raises(ValidationError):
        options.seed = 2  # type: ignore[misc]
    assert Outer.model_fields["training"].description == "A table."


def test_settings_go_on_top() -> None:
    found = override(
        {"training": {"epochs": 4}}, ["training.epochs=8", "method.name=mmd", "a.b.c = [1, 2]", "name=x=y"]
    )
    assert found == {"training": {"epochs": 8}, "method": {"name": "mmd"}, "a": {"b": {"c": [1, 2]}}, "name": "x=y"}


def test_the_values_below_are_left_as_they_were() -> None:
    values = {"a": {"b": {"c": 1}}, "d": {"e": 2}}
    before = copy.deepcopy(values)
    assert override(values, ["a.b.c=5", "d.e=6", "d.f=7"]) == {"a": {"b": {"c": 5}}, "d": {"e": 6, "f": 7}}
    assert values == before


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_setting_is_read_as_toml(value: Any) -> None:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    found = override({}, [f"key={text}"])["key"]
    assert found == value
    assert type(found) is type(value)


@given(
    st.text(st.characters(categories=["L"]), min_size=1).filter(
        lambda text: text not in ("true", "false", "inf", "nan")
    )
)
def test_what_is_no_toml_is_text(text: str) -> None:
    assert override({}, [f"key={text}"]) == {"key": text}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", r"--set epochs: write it as key=value"),
        ("=3", r"--set =3: write it as key=value"),
        ("seed.x=3", r"--set seed\.x=3: 'seed' is a value, not a table"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override({"seed": 1}, [setting])


def test_toml_is_read_and_its_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('name = "grün"\n[training]\nepochs = 3\n', encoding="utf-8")
    assert read_toml(path) == {"name": "grün", "training": {"epochs": 3}}
    path.write_text("name = \n")
    with pytest.raises(ConfigError, match=r"recipe\.toml: not a TOML file: .*line 1"):
        read_toml(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"recipe\.toml: not a TOML file"):
        read_toml(path)
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such file; give the path of a TOML file"):
        read_toml(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_toml(tmp_path)


def test_json_is_read_and_its_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"seed": 1}')
    assert read_json(path) == {"seed": 1}
    path.write_text("{")
    for wrong in (path, tmp_path / "nowhere.json"):
        with pytest.raises(ConfigError, match=r"\.json: cannot be read as JSON"):
            read_json(wrong)
