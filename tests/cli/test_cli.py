"""What the command line prints, where, and with which exit code; mistakes with images are in test_mistakes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from scrubjay.cli.terminal import working
from tiny import TINY, Call, paint, photos

SCRIPT = Path(sys.executable).with_name("scrubjay")
LONG = "a folder with [bold]a long[/bold] name and brackets " * 3


@pytest.fixture
def shop(call: Call, tmp_path: Path) -> Path:
    """A catalogue with eight images."""
    assert call("init", "shop", *TINY) == (0, "created shop. Next: scrubjay learn shop PHOTOS\n", "")
    photos(tmp_path / "spring", "apple", "pear")
    code, out, err = call("learn", "shop", "spring", "--add")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "8 items of these images are in the gallery, which holds 8."
    return tmp_path / "shop"


def test_a_search_prints_a_line_a_hit_with_the_whole_path(call: Call, shop: Path, tmp_path: Path) -> None:
    moved = tmp_path / LONG
    shutil.move(tmp_path / "spring", moved)
    call("add", "shop", LONG)
    code, out, err = call("search", "shop", f"{LONG}/pear/1.png", "-k", "3", "--label", "pear")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 3
    rank, score, match, label, path = lines[0].split(maxsplit=4)
    assert (rank, score, label, path) == ("1", "1.000", "pear", str(moved / "pear/1.png"))
    assert match.endswith("%")
    assert "no item of class fig" in call("search", "shop", f"{LONG}/pear/1.png", "--label", "fig")[1]


def test_json_is_all_that_stdout_gets(call: Call, shop: Path) -> None:
    code, out, err = call("search", "shop", "spring/pear/1.png", "--json")
    assert (code, err) == (0, "")
    answer = json.loads(out)
    match = {"matched", "threshold", "match_score", "match_basis"}
    assert set(answer) == {"hits", "generation", "unembedded", *match}
    assert len(answer["hits"]) == 5
    assert set(answer["hits"][0]) == {"id", "uri", "label", "score", "generation", "metadata", "match"}
    assert json.loads(call("search", "shop", "spring/pear/1.png", "--label", "fig", "--json")[1])["hits"] == []


def test_a_search_explains_its_hits_on_a_page(call: Call, shop: Path, tmp_path: Path) -> None:
    code, out, err = call("search", "shop", "spring/pear/1.png", "-k", "3", "--explain", "why/page.html")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "why/page.html"
    assert len(out.splitlines()) == 4
    text = (tmp_path / "why" / "page.html").read_text(encoding="utf-8")
    assert text.count("Half of what raises") + text.count("raises the similarity.") == 3
    code, out, err = call("search", "shop", "spring/pear/1.png", "--json", "--explain", "again.html")
    assert (code, err) == (0, "")
    assert len(json.loads(out)["hits"]) == 5
    assert (tmp_path / "again.html").is_file()
    code, out, err = call("search", "shop", "spring/pear/1.png", "--label", "fig", "--explain", "none.html")
    assert code == 0
    assert not (tmp_path / "none.html").exists()
    call("init", "max", *TINY, "--set", "network.pooling=max")
    call("learn", "max", "spring", "--add")
    code, out, err = call("search", "max", "spring/pear/1.png", "--explain", "max.html")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "network.pooling = 'max': only averages over positions can be explained" in err


def test_long_paths_are_not_wrapped(call: Call, tmp_path: Path) -> None:
    assert call("init", LONG, *TINY) == (0, f"created {LONG}. Next: scrubjay learn {LONG} PHOTOS\n", "")
    code, _, err = call("add", LONG, "nothing")
    assert (code, err.count("\n")) == (2, 1)
    assert f"scrubjay learn {LONG} PHOTOS" in err


def test_status_says_what_to_do_next(call: Call, shop: Path, tmp_path: Path) -> None:
    call("init", "new", *TINY)
    assert call("status", "new")[1].splitlines()[1] == "nothing learned yet: scrubjay learn new PHOTOS"
    photos(tmp_path / "summer", "fig")
    call("learn", "shop", "summer")
    lines = call("status", "shop")[1].splitlines()
    assert lines[1].startswith("● g0")
    assert lines[1].endswith("; 8 items  ← answers queries")
    assert lines[2].startswith("○ g1 from g0 (slda): 3 classes")
    assert "; 0 items, bridge " in lines[2]
    assert lines[3].endswith("promote g0")
    assert lines[4] == "g1 does not answer queries yet: scrubjay gate shop g1"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("init", "spring/apple/0.png/shop", *TINY), 1),
        (("init", "spring/apple/0.png", *TINY), 2),
        (("init", "x" * 300, *TINY), 1),
        (("init", "new", "--from", "spring"), 2),
        (("init", "new", "--set", "training"), 2),
        (("status", "spring/apple/0.png"), 2),
        (("status", "x" * 300), 2),
        (("add", "shop", "x" * 300), 2),
        (("add", "shop", "spring", "y/" + "x" * 300 + ".jpg"), 2),
        (("learn", "shop", "spring/apple/0.png"), 2),
        (("search", "shop", "spring"), 2),
        (("run", "spring", "--out", "out"), 2),
        (("run", "broken.toml", "--out", "out"), 2),
        (("run", "recipe.toml", "--out", "spring/apple/0.png"), 1),
        (("backbones", "no-such-*"), 2),
    ],
)
def test_a_path_of_the_wrong_kind_is_one_line(
    call: Call, shop: Path, tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    (tmp_path / "broken.toml").write_text("epochs = = 3")
    (tmp_path / "recipe.toml").write_text('[source]\nname = "aviary"\n[stream]\ninitial = 2\nstep = 1\n')
    answer = call(*arguments)
    assert answer[0] == code, answer
    assert answer[1] == ""
    assert answer[2].startswith("scrubjay: ")
    assert answer[2].count("\n") == 1
    assert call("search", "shop", "spring/apple/0.png")[0] == 0


@pytest.mark.parametrize(
    "arguments", [("learn", "shop"), ("add", "shop"), ("search", "a", "b", "-k", "x"), ("nothing",)]
)
def test_wrong_usage(call: Call, arguments: tuple[str, ...]) -> None:
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: ")


def test_names_that_are_no_text_lose_nothing(call: Call, shop: Path, tmp_path: Path) -> None:
    photos(tmp_path / "summer", "fig")
    bad = tmp_path / "summer" / "fig" / os.fsdecode(b"\xff.png")
    paint(bad.with_name("x.png"), 1, 99).rename(bad)
    (tmp_path / "summer" / "fig" / os.fsdecode(b"\xfe.png")).write_bytes(b"no image")
    code, out, err = call("learn", "shop", "summer", "--add")
    assert code == 0, err
    assert "4 items of these images" in out
    assert r"\udcff.png" in err
    assert r"\udcfe.png" in err
    code, out, err = call("learn", "shop", os.fspath(photos(tmp_path / "autumn", os.fsdecode(b"lime\xff"))))
    assert code == 0, err
    assert call("status", "shop")[0] == 0


def test_ctrl_c_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    for again in ("the same command", "`scrubjay add shop summer`"):
        with pytest.raises(typer.Exit) as stopped, working(again):
            raise KeyboardInterrupt
        assert stopped.value.exit_code == 130
        assert capsys.readouterr().err == f"interrupted: finished work is saved; run {again} again to continue.\n"


def test_what_the_system_refuses_is_one_line(call: Call, shop: Path, tmp_path: Path) -> None:
    (shop / "lock").unlink()
    (shop / "lock").mkdir()
    code, out, err = call("add", "shop", "spring")
    assert (code, out) == (1, "")
    assert err.startswith("scrubjay: shop: cannot be written")
    (shop / "lock").rmdir()
    shutil.rmtree(shop / "gallery")
    (shop / "gallery").write_text("in the way")
    code, out, err = call("search", "shop", "spring/apple/0.png")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "gallery" in err


def test_terminals_without_our_letters_and_pipes_that_close(shop: Path, tmp_path: Path) -> None:
    env = {**os.environ, "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [SCRIPT, "status", "shop"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u2190 answers queries" in done.stdout
    pipe = f"'{SCRIPT}' backbones | head -n 1"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_lists_have_a_line_each(call: Call) -> None:
    for command in ("methods", "sources"):
        code, out, _ = call(command)
        assert code == 0
        assert all(len(line.split(maxsplit=1)) == 2 for line in out.splitlines())
    lines = call("backbones", "tf_efficientnet_lite*")[1].splitlines()
    assert lines[0].split(maxsplit=1)[0] == "tf_efficientnet_lite0"
    assert "weights are installed" in lines[0]
    assert len(lines) == 5
