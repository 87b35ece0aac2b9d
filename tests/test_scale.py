from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def scale() -> dict[str, object]:
    (script,) = ROOT.glob("benchmarks/**/scale.py")
    return runpy.run_path(str(script))


def test_the_page_has_the_tables_that_follow_from_the_constants(scale: dict[str, object]) -> None:
    assert scale["tables"]() in (ROOT / "docs" / "scale.md").read_text()  # type: ignore[operator]


def test_every_constant_names_a_script_that_exists(scale: dict[str, object]) -> None:
    for constant in scale["CONSTANTS"].values():  # type: ignore[attr-defined]
        assert list(ROOT.glob(f"benchmarks/**/{constant.command.split()[0]}")), constant.command


def test_a_machine_holds_what_is_divided_by_its_disk(scale: dict[str, object]) -> None:
    for line in scale["rows"]():  # type: ignore[operator]
        if line[0].startswith("machines"):
            assert line[1:] == ["1", "1", "2"], "(2,400 + 4,218) bytes times 10⁹ are 6.6 TB"
