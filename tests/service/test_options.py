"""Options from file, environment and flags, and the table in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.errors import ConfigError
from scrubjay.service.options import PREFIX, ServiceOptions, is_loopback

FLAGS = ("host", "port", "workers")


def test_table_in_the_documentation_is_that_of_the_code() -> None:
    text = (Path(__file__).parents[2] / "docs" / "service.md").read_text()
    table = [line for line in text.splitlines() if f"`{PREFIX}" in line]
    expected = []
    for name, field in ServiceOptions.model_fields.items():
        default = "none" if field.default == () else field.default
        flag = f"--{name}" if name in FLAGS else f"--set {name}=…"
        meaning = " ".join((field.description or "").split())
        expected.append(f"| `{name}` | `{default}` | `{PREFIX}{name.upper()}` | `{flag}` | {meaning} |")
    assert table == expected


def test_later_sources_replace_earlier_ones(tmp_path: Path) -> None:
    config = tmp_path / "service.toml"
    config.write_text('port = 1\nworkers = 2\nthreads = 3\norigins = ["https://a.example"]\n')
    environment = {f"{PREFIX}WORKERS": "4", f"{PREFIX}THREADS": "5", "OTHER": "x"}
    options = ServiceOptions.read(config, environment, ["threads=6"])
    assert (options.port, options.workers, options.threads) == (1, 4, 6)
    assert options.origins == ("https://a.example",)
    listed = ServiceOptions.read(None, {f"{PREFIX}ORIGINS": "https://a.example, http://b.example:81"})
    assert listed.origins == ("https://a.example", "http://b.example:81")


@pytest.mark.parametrize(
    ("content", "environment", "flags", "parts"),
    [
        ("prot = 1", {}, [], ["service.toml", "'prot'", "'port'"]),
        ("", {f"{PREFIX}PROT": "1"}, [], [f"{PREFIX}PROT", "port"]),
        ("", {f"{PREFIX}PORT": "x"}, [], [f"{PREFIX}PORT", "port"]),
        ("", {}, ["port=70000"], ["serve", "port", "70000"]),
        ("", {}, ["origins=https://*"], ["not an origin"]),
    ],
)
def test_mistakes_say_where_they_are(
    tmp_path: Path, content: str, environment: dict[str, str], flags: list[str], parts: list[str]
) -> None:
    config = tmp_path / "service.toml"
    config.write_text(content)
    with pytest.raises(ConfigError) as refused:
        ServiceOptions.read(config, environment, flags)
    assert all(part in str(refused.value) for part in parts)


@given(st.ip_addresses())
def test_only_loopback_addresses_are_loopback(address: object) -> None:
    assert is_loopback(str(address)) == str(address).startswith("127.") or str(address) == "::1"


@given(st.text())
def test_names_are_not_loopback(name: str) -> None:
    assert not is_loopback(f"{name}.example")
