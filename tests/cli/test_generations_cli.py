"""The commands of generations, in the order in which a shop meets them: what they print, and their exit codes."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from scrubjay.catalogue import Catalogue
from shops import copied
from tiny import Call, paint

LOOSE = {"old_retention": 0, "negative_flips": 1, "new_gain": -1}


@pytest.fixture
def shop(tmp_path: Path) -> Catalogue:
    return copied(tmp_path)


def options(shop: Catalogue, **changed: object) -> None:
    """Change catalogue.json as a user would."""
    path = shop.folder / "catalogue.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, **changed}))


def test_from_learning_to_pruning(shop: Catalogue, call: Call, tmp_path: Path) -> None:
    code, out, err = call("gate", "shop", "g1", "--report", "gate.html")
    assert (code, err) == (0, "")
    assert out.startswith("PASS: g1 may answer queries")
    assert out.endswith("gate.html\n")
    assert "<html" in (tmp_path / "gate.html").read_text()

    options(shop, gate={**LOOSE, "new_gain": 1.01})
    code, out, err = call("gate", "shop", "g1")
    assert (code, err) == (1, "")
    assert out.startswith("FAIL: g1 must not answer queries; g0 continues to")
    assert "new_gain" in out
    assert call("gate", "shop", "g1", "--set", "new_gain=-1")[0] == 0, "the limit changes for this report only"
    code, out, err = call("gate", "shop", "g1", "--set", "gain=0")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "gate: unknown key 'gain'" in err
    code, out, err = call("promote", "shop", "g1")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "g1 was not promoted: new_gain" in err
    assert Catalogue(shop.folder).serving.read().generation == "g0"
    code, out, err = call("promote", "shop", "g1", "--force")
    assert code == 0
    assert err.startswith("forced against the gate: new_gain")
    assert out.splitlines() == [
        "g1 answers queries now; before: g0.",
        "10 items are found by older vectors. Next: scrubjay backfill shop --plan",
    ]
    code, out, _ = call("status", "shop")
    assert code == 0
    assert "promote g1 after g0, forced against the gate: new_gain" in out
    assert re.search(r"g1 from g0 .*← answers queries", out)

    code, out, err = call("backfill", "shop", "--plan")
    assert (code, err) == (0, "")
    assert out.startswith("10 items to embed with g1, about ")
    assert "10 by g0" in out
    assert Catalogue(shop.folder).gallery.counts().get("g1", 0) == 0, "a plan changes nothing"
    code, out, _ = call("backfill", "shop", "--items", "3", "--order", "random")
    assert code == 0
    assert out.startswith("embedded 3 items in ")
    assert "7 items are still found by older vectors" in out
    code, out, _ = call("backfill", "shop", "--budget", "9h", "--until-recall", "1.0", "--rate", "1000")
    assert (code, out.startswith("embedded 7 items in ")) == (0, True)
    assert "complete and audited: every item with a readable image is embedded" in out
    assert call("backfill", "shop", "--plan") == (0, "nothing to do: every item is embedded by g1.\n", "")

    assert call("rollback", "shop") == (0, "g0 answers queries again; before: g1.\n", "")
    code, out, err = call("rollback", "shop")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "nothing to roll back to" in err
    assert "rollback g0 after g1" in call("status", "shop")[1]
    assert "g1 does not answer queries yet" not in call("status", "shop")[1], (
        "a generation that was rolled back is not recommended"
    )

    options(shop, gate=LOOSE)
    code, out, _ = call("promote", "shop", "g2")
    assert (code, out.splitlines()[0]) == (0, "g2 answers queries now; before: g0.")
    assert call("backfill", "shop")[0] == 0
    code, out, err = call("prune", "shop", "--yes")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("space g1-")
    assert out.splitlines()[-1] == "deleted."
    assert call("search", "shop", "spring/train/apple/0.png")[0] == 0


def test_a_shadow_answers_and_is_compared(shop: Catalogue, call: Call, tmp_path: Path) -> None:
    assert call("shadow", "shop")[0] == 2
    assert call("shadow", "shop", "g1", "--share", "1") == (
        0,
        "g1 will answer 100% of the queries as well. Compare: scrubjay shadow shop\n",
        "",
    )
    assert "no query was answered by both generations yet" in call("shadow", "shop")[1]
    for image in ("apple/100.png", "pear/101.png"):
        Catalogue(shop.folder).search(tmp_path / "spring/test" / image)
    call("search", "shop", "spring/test/pear/101.png", "--label", "pear")
    code, out, err = call("shadow", "shop")
    assert (code, err) == (0, "")
    assert out.startswith("2 queries were answered by both generations.")
    assert call("shadow", "shop", "--stop") == (0, "no shadow generation is set any more.\n", "")
    code, out, err = call("shadow", "shop")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_search_is_logged(shop: Catalogue, call: Call) -> None:
    call("search", "shop", "spring/test/apple/100.png")
    assert [query.generation for query in shop._searcher.query_log.recent()] == ["g0"]
    call("search", "shop", "spring/test/apple/100.png", "--label", "pear")
    call("search", "shop", "spring/test/apple/100.png", "--where", "box=no")
    assert len(shop._searcher.query_log.recent()) == 1, "filtered queries are not logged"


def test_an_unmatched_query_is_reported(shop: Catalogue, call: Call, tmp_path: Path) -> None:
    options(shop, false_match_rate=0.2)
    path = shop.folder / "calibration" / "g0.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "unknown": [1.0] * 6}))
    code, out, err = call("search", "shop", "summer/test/fig/100.png")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith(
        "probably not in the catalogue. More than 20% of images of classes never learned may "
    )
    assert json.loads(call("search", "shop", "summer/test/fig/100.png", "--json")[1])["matched"] is False
    path.write_text(json.dumps({**values, "unknown": [0.0] * 6}))
    assert "probably not" not in call("search", "shop", "spring/train/apple/0.png")[1]


def test_unknown_classes_are_reported_in_groups(shop: Catalogue, call: Call, tmp_path: Path) -> None:
    code, out, err = call("novel", "shop")
    assert (code, out, err.count("\n")) == (2, "", 1), "six probe images are too few for a rate of one in twenty"
    options(shop, false_match_rate=0.2)
    assert call("novel", "shop") == (0, "no sign of new classes: 0 of the last 0 queries found no match.\n", "")
    path = shop.folder / "calibration" / "g0.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "unknown": [0.9999999] * 6, "known": [0.99999999] * 60}))
    for number in range(12):
        Catalogue(shop.folder).search(paint(tmp_path / "odd" / f"{number}.png", 11, number))
    code, out, err = call("novel", "shop", "--report", "novel.html")
    assert (code, err) == (0, "")
    assert out.startswith("time to learn: 12 of the last 12 queries look like new classes")
    assert "group 1: " in out
    assert (tmp_path / "novel.html").is_file()
    assert "time to learn" in call("status", "shop")[2]
    assert "time to learn" in call("search", "shop", "odd/0.png")[2]


def test_where_filters_by_metadata(shop: Catalogue, call: Call, tmp_path: Path) -> None:
    table = tmp_path / "boxes.csv"
    rows = ["spring/train/apple/0.png,leaf,0,0,20,20", "spring/train/apple/1.png,leaf,5,5,30,30"]
    table.write_text("\n".join(["path,label,x_1,y_1,x_2,y_2", *rows]) + "\n")
    assert call("add", "shop", "boxes.csv")[0] == 0
    apple = ("search", "shop", "spring/train/apple/0.png", "-k", "50")
    code, out, err = call(*apple, "--where", "box=0,0,20,20", "--json")
    assert (code, err) == (0, "")
    (hit,) = json.loads(out)["hits"]
    assert (hit["label"], hit["metadata"]) == ("leaf", {"box": "0,0,20,20"})
    assert json.loads(call(*apple, "--where", "box=no", "--json")[1])["hits"] == []
    assert call(*apple, "--where", "box=no")[0] == 0
    code, out, err = call(*apple, "--where", "box")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_gallery_is_copied_and_both_are_compared(shop: Catalogue, call: Call, tmp_path: Path) -> None:
    assert call("copy", "shop", f"lancedb://{tmp_path}/elsewhere") == (
        0,
        f"copied 10 items, 10 vectors of {shop.gallery.store.spaces()[0].id}.\n"
        "both stores hold the same: counts and hashes are equal.\n",
        "",
    )
    options(shop, store=f"lancedb://{tmp_path}/elsewhere")
    code, out, _ = call("search", "shop", "spring/train/apple/0.png")
    assert code == 0
    assert "spring/train/apple/0.png" in out.splitlines()[0]
    code, out, err = call("copy", "shop", "nowhere")
    assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.filterwarnings("ignore")
def test_a_generation_is_exported(shop: Catalogue, call: Call) -> None:
    if importlib.util.find_spec("onnx") is None or importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("the extra onnx is not installed")
    code, out, err = call("export", "shop", "g1", "--out", "g1.onnx")
    assert code == 0, err
    assert re.match(r"g1\.onnx: .* MiB; its vectors of \d+ images differ by at most .* from those of torch\.", out)
    assert Path("g1.onnx").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ("gate", "shop", "g9"),
        ("gate", "shop", "g0"),
        ("gate", "nowhere", "g1"),
        ("promote", "shop", "g9"),
        ("promote", "shop", "g0", "--force"),
        ("rollback", "shop"),
        ("rollback", "shop", "g9"),
        ("rollback", "shop", "g0"),
        ("backfill", "shop", "--budget", "soon"),
        ("backfill", "shop", "--budget", "5"),
        ("backfill", "shop", "--order", "best"),
        ("backfill", "shop", "--plan", "--order", "best"),
        ("shadow", "shop", "g9"),
        ("shadow", "shop", "g0"),
        ("export", "shop", "g9"),
        ("export", "shop", "g1", "--format", "tflite"),
        ("learn", "shop", "summer", "--from", "g9"),
        ("learn", "shop", "spring"),
        ("remove", "shop"),
        ("novel", "shop"),
        ("copy", "shop", "ftp://nowhere"),
        ("doctor", "shop", "--thorough"),
    ],
)
def test_a_mistake_is_one_line(shop: Catalogue, call: Call, arguments: tuple[str, ...]) -> None:
    before = shop.serving.read()
    code, out, err = call(*arguments)
    assert (code, out) == (2, ""), (out, err)
    assert err.startswith("scrubjay: ")
    assert err.count("\n") == 1
    assert Catalogue(shop.folder).serving.read() == before
    assert Catalogue(shop.folder).gallery.counts() == {"g0": 10}


@pytest.mark.parametrize(
    "arguments",
    [
        ("gate", "shop"),
        ("backfill", "shop", "--items", "0"),
        ("backfill", "shop", "--items", "x"),
        ("backfill", "shop", "--until-recall", "2"),
        ("backfill", "shop", "--rate", "0"),
        ("backfill", "shop", "--jobs", "0"),
        ("shadow", "shop", "g1", "--share", "2"),
    ],
)
def test_wrong_usage_is_reported(shop: Catalogue, call: Call, arguments: tuple[str, ...]) -> None:
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: ")
