from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.errors import CatalogueError, StorageError
from scrubjay.generations.serving import Serving, ServingChange, ServingFile, Shadow


def test_no_generation_answers_before_the_first_change(tmp_path: Path) -> None:
    assert ServingFile(tmp_path).read() == Serving()


def test_changes_are_recorded(tmp_path: Path) -> None:
    file = ServingFile(tmp_path)
    file.change("promote", "g0", 0)
    file.change("promote", "g1", 1, forced=True, reasons=("old classes are lost",))
    now = ServingFile(tmp_path).read()
    assert (now.revision, now.generation, now.previous) == (2, "g1", "g0")
    assert now.history[1].text() == "promote g1 after g0, forced against the gate: old classes are lost"
    back = file.change("rollback", "g0", 2)
    assert (back.generation, back.previous, back.rolled_back) == ("g0", None, {"g1"})
    assert file.change("promote", "g1", 3).rolled_back == frozenset()


def test_a_change_based_on_an_older_revision_is_refused(tmp_path: Path) -> None:
    file = ServingFile(tmp_path)
    file.change("promote", "g0", 0)
    with pytest.raises(CatalogueError, match="changed the serving generation to g0 in the meantime"):
        file.change("promote", "g1", 0)
    assert file.read().generation == "g0"


def test_the_shadow_ends_when_it_is_promoted_and_not_before(tmp_path: Path) -> None:
    file = ServingFile(tmp_path)
    file.change("promote", "g0", 0)
    assert file.shadow(Shadow("g2", 0.5), 1).shadow == Shadow("g2", 0.5)
    assert file.change("promote", "g1", 2).shadow == Shadow("g2", 0.5)
    assert file.change("promote", "g2", 3).shadow is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"revision": 1}', '{"revision": 1, "generation": "g0", "history": 3}']
)
def test_a_damaged_file_is_one_line_with_the_cure(tmp_path: Path, content: str) -> None:
    (tmp_path / "serving.json").write_text(content)
    with pytest.raises(StorageError, match=r"damaged.*scrubjay promote"):
        ServingFile(tmp_path).read()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4))))
def test_a_rollback_leads_to_a_generation_that_answered_before(steps: list[tuple[bool, int]]) -> None:
    history: list[ServingChange] = []
    now: str | None = None
    for back, number in steps:
        previous = Serving(0, now, None, tuple(history)).previous
        after = previous if back else f"g{number}"
        if after is None or after == now:
            continue
        history.append(ServingChange("rollback" if back else "promote", now, after, "now"))
        now = after
        found = Serving(0, now, None, tuple(history)).previous
        assert found is None or found in [change.after for change in history]
        assert found != now


def test_the_file_is_readable(tmp_path: Path) -> None:
    ServingFile(tmp_path).change("promote", "g0", 0)
    assert json.loads((tmp_path / "serving.json").read_text())["generation"] == "g0"


def test_a_rollback_leads_to_an_existing_generation(tmp_path: Path) -> None:
    file = ServingFile(tmp_path)
    with pytest.raises(CatalogueError, match="nothing to roll back to: no generation answers queries yet"):
        file.rollback()
    for number in range(2):
        (tmp_path / f"generations/g{number}").mkdir(parents=True)
        (tmp_path / f"generations/g{number}/generation.json").touch()
        file.change("promote", f"g{number}", number)
    with pytest.raises(CatalogueError, match="no generation 'g7'; there are: g0, g1"):
        file.rollback("g7")
    with pytest.raises(CatalogueError, match="g1 answers queries already"):
        file.rollback("g1")
    assert file.rollback().generation == "g0"
    with pytest.raises(CatalogueError, match="g0 is the first"):
        file.rollback()
