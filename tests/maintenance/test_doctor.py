"""Each problem is created, found by the doctor, and gone after the commands that the finding names."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from scrubjay.catalogue import Catalogue
from scrubjay.generations.bridge_paths import space_of
from scrubjay.maintenance.doctor import Finding
from scrubjay.stores import Item, Space
from shops import copied
from tiny import Call, paint

UNIT = np.eye(8, dtype=np.float32)


@pytest.fixture
def shop(tmp_path: Path) -> Catalogue:
    return copied(tmp_path)


@pytest.fixture
def cured(call: Call, monkeypatch: pytest.MonkeyPatch, shop: Catalogue) -> Callable[[Finding], None]:
    """Runs the commands that a finding names, and answers yes to questions."""

    def run(finding: Finding) -> None:
        commands = re.findall(r"(?:rm|scrubjay) [^`,&]*", finding.cure)
        assert commands, f"no command in: {finding.cure}"
        for command in commands:
            program, *arguments = shlex.split(command)
            if program == "rm":
                Path(arguments[0]).unlink()
                continue
            monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
            code, out, err = call(*arguments)
            assert code in (0, 1), f"{command}: {out}{err}"

    return run


def found(shop: Catalogue) -> list[Finding]:
    return Catalogue(shop.folder).upkeep.examine()


def errors(shop: Catalogue) -> list[Finding]:
    return [finding for finding in found(shop) if finding.kind == "error"]


def notes(shop: Catalogue) -> list[Finding]:
    return [finding for finding in found(shop) if finding.kind == "note"]


def ids(shop: Catalogue) -> list[str]:
    return [item.id for item in shop.gallery.store.items()]


def served(shop: Catalogue) -> Space:
    return space_of(shop.lineage.get("g0"))


def write(shop: Catalogue, rows: list[tuple[str, str, np.ndarray]], *, gone: bool = False) -> None:
    """Write rows into the table of g0's vectors directly, bypassing all checks."""
    database = lancedb.connect(shop.folder / "gallery")
    (name,) = (name for name in database.list_tables().tables if name.startswith("g0-"))
    table = database.open_table(name)
    if gone:
        table.delete("id IN (" + ", ".join(f"'{row[0]}'" for row in rows) + ")")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate([row[2] for row in rows])), 8)
    table.add(pa.table([[row[0] for row in rows], [row[1] for row in rows], vectors], schema=table.schema))


def test_a_catalogue_that_works_is_sound(shop: Catalogue, call: Call) -> None:
    assert found(shop) == []
    assert call("doctor", "shop") == (0, "shop has no problems.\n", "")
    shop.promote("g1")
    (note,) = found(shop)
    assert (note.kind, note.what) == (
        "note",
        "10 of 10 items are found by vectors of other generations, over bridges",
    )
    shop.backfill()
    assert found(shop) == []


def test_foreign_vectors(shop: Catalogue, cured: Callable[[Finding], None], tmp_path: Path) -> None:
    foreign = Space("g1-foreign", 4, "print of another g1", "g1")
    shop.gallery.store.create_space(foreign)
    shop.gallery.store.put_embeddings(foreign, ids(shop)[:3], np.eye(4, dtype=np.float32)[:3])
    assert len(shop.search(tmp_path / "spring/train/apple/0.png", 20)) == 10
    (finding,) = errors(shop)
    assert "g1-foreign: its 3 vectors are foreign" in finding.what
    cured(finding)
    assert found(shop) == []


def test_items_with_foreign_vectors_only(shop: Catalogue, cured: Callable[[Finding], None], tmp_path: Path) -> None:
    """As in a gallery that was copied from another catalogue."""
    vectors = shop.gallery.store.vectors(served(shop).id)[1]
    foreign = Space("g0-foreign", 8, "print of another g0", "g0")
    shop.gallery.store.create_space(foreign)
    shop.gallery.store.put_embeddings(foreign, ids(shop), vectors)
    shop.gallery.store.drop_embeddings(served(shop).id, ids(shop)[:4])
    what = [finding.what for finding in errors(shop)]
    assert len(what) == 2
    assert "10 vectors are foreign" in what[0]
    assert "4 items have no vector, so no search finds them" in what[1]
    assert len(shop.search(tmp_path / "spring/train/apple/0.png", 20)) == 6
    cured(errors(shop)[0])
    assert found(shop) == []
    assert len(Catalogue(shop.folder).search(tmp_path / "spring/train/apple/0.png", 20)) == 10


def test_vectors_that_no_bridge_reaches(shop: Catalogue, cured: Callable[[Finding], None]) -> None:
    space = Space("g7-lost", 8, "print of g7", "g7")
    shop.gallery.store.create_space(space)
    shop.gallery.store.put_embeddings(space, ids(shop)[:2], UNIT[:2])
    (finding,) = errors(shop)
    assert "no bridge leads to the 2 vectors of g7" in finding.what
    cured(finding)
    assert found(shop) == []


def test_vectors_of_two_generations_in_one_space(shop: Catalogue, cured: Callable[[Finding], None]) -> None:
    shop.gallery.store.put_embeddings(served(shop), ids(shop)[2:5], UNIT[:3])
    (finding,) = errors(shop)
    assert "is mixed: 3 of 10 vectors in a sample differ" in finding.what
    cured(finding)
    assert found(shop) == []
    assert shop.gallery.counts() == {"g0": 10}


def test_a_mixed_space_of_an_earlier_generation(shop: Catalogue, cured: Callable[[Finding], None]) -> None:
    shop.promote("g1")
    shop.gallery.store.put_embeddings(served(shop), ids(shop)[2:5], UNIT[:3])
    (finding,) = errors(shop)
    assert "g0" in finding.what
    cured(finding)
    assert found(shop) == []
    assert shop.rollback().generation == "g0"
    assert errors(shop) == []


@pytest.mark.parametrize(
    ("kind", "vector"),
    [
        ("non-finite", np.array([np.inf] + [0] * 7, np.float32)),
        ("unnormalised", np.full(8, 2, np.float32)),
        ("unnormalised", np.zeros(8, np.float32)),
    ],
)
def test_invalid_vectors(shop: Catalogue, cured: Callable[[Finding], None], kind: str, vector: np.ndarray) -> None:
    names = ids(shop)[:2]
    write(shop, [(name, name, vector) for name in names], gone=True)
    what = [finding for finding in errors(shop) if f"2 {kind} vectors" in finding.what]
    assert len(what) == 1
    assert names[0] in what[0].what
    cured(what[0])
    assert found(shop) == []
    assert shop.gallery.counts() == {"g0": 10}


def test_two_vectors_of_one_item(shop: Catalogue, cured: Callable[[Finding], None], tmp_path: Path) -> None:
    names, vectors = shop.gallery.store.vectors(served(shop).id)
    write(shop, [(names[0], names[0], vectors[0])])
    (finding,) = errors(shop)
    assert "1 duplicate vectors" in finding.what
    cured(finding)
    assert found(shop) == []
    assert len(Catalogue(shop.folder).search(tmp_path / "spring/train/apple/0.png", 20)) == 10


def test_vectors_of_no_item_and_of_an_older_image(shop: Catalogue, cured: Callable[[Finding], None]) -> None:
    write(shop, [("nobody", "nobody", UNIT[0])])
    (finding,) = found(shop)
    assert (finding.kind, "1 of no item; no search finds them" in finding.what) == ("note", True)
    cured(finding)
    assert found(shop) == []
    names = ids(shop)
    write(shop, [(names[0], "an older content", UNIT[0])], gone=True)
    note, error = sorted(found(shop), key=lambda finding: finding.kind, reverse=True)
    assert "1 of an older image" in note.what
    assert "1 items have no vector" in error.what
    cured(note)
    cured(Finding("error", "", error.cure.partition(", or")[0]))
    assert found(shop) == []


def test_items_without_vectors(shop: Catalogue, cured: Callable[[Finding], None]) -> None:
    shop.gallery.store.drop_embeddings(served(shop).id, ids(shop)[:3])
    (finding,) = errors(shop)
    assert "3 items have no vector, so no search finds them" in finding.what
    cured(Finding("error", "", finding.cure.partition(", or")[0]))
    assert found(shop) == []


def test_items_without_vectors_or_images(shop: Catalogue, cured: Callable[[Finding], None], tmp_path: Path) -> None:
    """No backfill can embed these items, so none must be recommended."""
    first, second, *_ = shop.gallery.store.items()
    shop.gallery.store.drop_embeddings(served(shop).id, [first.id, second.id])
    Path(first.uri).unlink()
    findings = [finding.what for finding in errors(shop)]
    assert any(what.startswith("1 items have no vector, so no search finds them: adding") for what in findings)
    (hopeless,) = (finding for finding in errors(shop) if "their images are missing" in finding.what)
    cured(hopeless)
    assert found(shop) == []
    assert shop.gallery.count() == 9


def test_missing_files(shop: Catalogue, cured: Callable[[Finding], None], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "spring/train/apple")
    (finding,) = found(shop)
    assert (finding.kind, finding.what.startswith("5 items whose file is missing")) == ("note", True)
    assert "2 more" in finding.what
    assert len(shop.search(tmp_path / "spring/train/pear/0.png", 20)) == 10, "vectors stay searchable"
    cured(finding)
    assert found(shop) == []
    assert shop.gallery.count() == 5


def test_changed_files(shop: Catalogue, call: Call, tmp_path: Path) -> None:
    changed = tmp_path / "spring/train/apple/0.png"
    paint(changed, 3, 99)
    (finding,) = found(shop)
    assert (finding.kind, f"1 items whose file has changed since it was added ({changed})" in finding.what) == (
        "note",
        True,
    )
    first, second = re.findall(r"scrubjay ([^,]*)", finding.cure)
    assert call(*shlex.split(first.replace("FILES", str(changed))))[0] == 0
    assert call(*shlex.split(second)) == (0, "removed 1 of 1 items.\n", "")
    assert found(shop) == []
    assert shop.gallery.count() == 10
    assert Catalogue(shop.folder).search(changed, 1)[0].uri == str(changed)


def test_interrupted_learning(shop: Catalogue) -> None:
    (shop.folder / "session-g3.safetensors").write_bytes(b"half a session")
    (finding,) = found(shop)
    assert "session-g3.safetensors: learning was interrupted" in finding.what
    assert "scrubjay learn" in finding.cure


def test_an_interrupted_backfill(shop: Catalogue, cured: Callable[[Finding], None]) -> None:
    shop.promote("g1")
    shop.backfill()
    shop.gallery.store.drop_embeddings(space_of(shop.lineage.get("g1")).id, ids(shop)[:6])
    journal = shop.folder / "backfill" / "g1.jsonl"
    kept = [line for line in journal.read_text().splitlines() if '"complete"' not in line]
    journal.write_text("\n".join(kept) + "\n")
    assert any("interrupted" in finding.what for finding in notes(shop)), notes(shop)
    for finding in notes(shop):
        if "--plan" not in finding.cure:
            cured(finding)
    assert found(shop) == []


def test_temporary_files_of_killed_processes(shop: Catalogue, cured: Callable[[Finding], None]) -> None:
    left = [".catalogue.json.71", "generations/.g3.71", "probe/.g3.71", "probe/g0/.by-x.safetensors.71"]
    for name in left:
        path = shop.folder / name
        path.mkdir() if name.count(".") == 2 else path.write_text("half")
    (finding,) = found(shop)
    assert "4 temporary files" in finding.what
    cured(finding)
    assert found(shop) == []
    assert not any((shop.folder / name).exists() for name in left)
    assert len(shop.lineage.generations()) == 3


def test_a_missing_serving_file(shop: Catalogue, cured: Callable[[Finding], None], tmp_path: Path) -> None:
    (shop.folder / "serving.json").unlink()
    (finding,) = errors(shop)
    assert finding.what == "no generation answers queries"
    cured(finding)
    assert errors(shop) == []
    assert len(Catalogue(shop.folder).search(tmp_path / "spring/train/apple/0.png", 20)) == 10


def test_a_damaged_serving_file(shop: Catalogue, call: Call) -> None:
    (shop.folder / "serving.json").write_text("{")
    (finding, *_) = errors(shop)
    assert f"rm {shop.folder / 'serving.json'}" in finding.what or "delete it and promote" in finding.what
    (shop.folder / "serving.json").unlink()
    assert call("promote", str(shop.folder), "g0")[0] == 0
    assert errors(shop) == []


def test_a_missing_serving_generation(shop: Catalogue, cured: Callable[[Finding], None], tmp_path: Path) -> None:
    shop.promote("g1")
    (shop.folder / "generations" / "g1").rename(tmp_path / "g1")
    findings = [finding for finding in errors(shop) if "the serving generation g1 is missing" in finding.what]
    assert len(findings) == 1
    cured(Finding("error", "", findings[0].cure.partition("or: ")[2].replace("g2", "g0")))
    assert errors(shop) == []


def test_damaged_calibrations(shop: Catalogue, cured: Callable[[Finding], None]) -> None:
    (shop.folder / "calibration" / "g0.json").write_text("{")
    (finding,) = errors(shop)
    assert "g0.json" in finding.what
    cured(finding)
    assert found(shop) == []
    assert (shop.folder / "calibration" / "g0.json").is_file()


def test_a_damaged_match_model(shop: Catalogue, cured: Callable[[Finding], None]) -> None:
    (shop.folder / "calibration" / "g0.safetensors").write_text("{")
    (finding,) = errors(shop)
    assert "g0.safetensors" in finding.what
    cured(finding)
    assert found(shop) == []


def test_missing_probe_images(shop: Catalogue) -> None:
    (shop.folder / "probe/g0/0000.png").rename(shop.folder.parent / "kept.png")
    (finding,) = errors(shop)
    assert "1 probe images are missing" in finding.what
    (shop.folder.parent / "kept.png").rename(shop.folder / "probe/g0/0000.png")
    assert found(shop) == []


def test_exit_code_is_1_for_errors_only(shop: Catalogue, call: Call, tmp_path: Path) -> None:
    (tmp_path / "spring/train/apple/0.png").unlink()
    code, out, err = call("doctor", "shop")
    assert (code, err) == (0, "")
    assert out.startswith("note: 1 items whose file is missing")
    shop.gallery.store.put_items([Item("loose", str(tmp_path / "spring/train/apple/1.png"), "other", None)])
    code, _, err = call("doctor", "shop")
    assert code == 1
    assert err.startswith("error: ")
    code, out, err = call("doctor", "shop", "--thorough")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
