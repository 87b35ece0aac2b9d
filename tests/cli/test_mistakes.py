"""What a user may do wrong: one line that names the value and the cure, the right exit code, nothing lost."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import TINY, Call, photos
from waiting import GUARD, until


@pytest.fixture
def shop(call: Call, tmp_path: Path) -> Path:
    """A catalogue that has learned apples and pears; nothing in its gallery."""
    assert call("init", "shop", *TINY)[0] == 0
    photos(tmp_path / "spring", "apple", "pear")
    code, out, err = call("learn", "shop", "spring", "--method", "mmd")
    assert code == 0, err
    assert out.startswith("g0 (mmd): 2 classes")
    return tmp_path / "shop"


def refused(answer: tuple[int, str, str], *parts: str, code: int = 2) -> None:
    assert answer[0] == code, answer
    lines = answer[2].strip().splitlines()
    assert len(lines) == 1, answer[2]
    assert "Traceback" not in answer[2]
    for part in parts:
        assert part in lines[0], lines[0]


def test_the_whole_journey(call: Call, shop: Path, tmp_path: Path) -> None:
    import shutil

    assert call("add", "shop", "spring")[0] == 0
    shutil.rmtree(tmp_path / "spring" / "apple")
    photos(tmp_path / "summer", "fig")
    code, out, err = call("learn", "shop", "summer", "--method", "l2", "--add")
    assert code == 0, err
    assert "g1 from g0 (l2): 3 classes" in out
    code, out, _ = call("search", "shop", str(tmp_path / "summer/fig/0.png"), "-k", "2", "--json")
    hits = json.loads(out)["hits"]
    assert code == 0
    assert [hit["generation"] for hit in hits] == ["g0", "g0"]
    assert hits[0]["uri"] == str(tmp_path / "summer/fig/0.png")
    assert hits[0]["score"] == pytest.approx(1, abs=1e-5)
    assert call("promote", "shop", "g1", "--force")[0] == 0
    code, out, err = call("backfill", "shop")
    assert (code, "8 items" in out, err.count("left out")) == (0, True, 4)
    photos(tmp_path / "spring", "apple", "pear")
    assert "audited: every item" in call("backfill", "shop")[1]
    code, out, _ = call("status", "shop")
    assert code == 0
    assert "12 items" in out
    assert "g1 from g0 (l2)" in out.splitlines()[2]
    assert out.splitlines()[2].endswith("← answers queries")
    assert call("remove", "shop", hits[0]["id"])[1] == "removed 1 of 1 items.\n"


def test_a_missing_folder(call: Call, shop: Path) -> None:
    refused(call("learn", "shop", "autumn"), "autumn", "check the path")
    refused(call("add", "shop", "autumn"), "autumn")


def test_an_empty_class(call: Call, shop: Path, tmp_path: Path) -> None:
    photos(tmp_path / "summer", "fig")
    (tmp_path / "summer" / "lime").mkdir()
    refused(call("learn", "shop", "summer"), "'lime'", "no image")


def test_one_class_only(call: Call, tmp_path: Path) -> None:
    call("init", "shop", *TINY)
    photos(tmp_path / "spring", "apple")
    refused(call("learn", "shop", "spring"), "apple", "needs two")


def test_a_class_already_learned(call: Call, shop: Path) -> None:
    refused(call("learn", "shop", "spring"), "'apple'", "already learned")
    assert call("status", "shop")[0] == 0


def test_a_table_without_label(call: Call, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("path,kind\nspring/apple/0.png,apple\n")
    refused(call("learn", "shop", "table.csv"), "label", "kind")


def test_a_path_outside_of_the_tables_folder(call: Call, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "table.csv").write_text("path,label\n../spring/apple/0.png,fig\n")
    refused(call("learn", "shop", "lists/table.csv"), "../spring/apple/0.png")


def test_an_unknown_key(call: Call, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('epocs = 3\n[source]\nname = "aviary"\n[stream]\ninitial = 2\nstep = 1\n')
    refused(call("run", "recipe.toml", "--out", "out"), "epocs", "recipe.toml")
    refused(call("init", "other", "--set", "training.epocs=3"), "training.epocs", "epochs")
    photos(tmp_path / "summer", "fig")
    refused(call("learn", "shop", "summer", "--set", "alfa=3"), "alfa", "alpha")
    refused(call("run", "nothing.toml", "--out", "out"), "nothing.toml")


def test_unknown_names(call: Call, shop: Path, tmp_path: Path) -> None:
    photos(tmp_path / "summer", "fig")
    refused(call("learn", "shop", "summer", "--method", "mmmd"), "mmmd", "mmd")
    refused(call("learn", "shop", "summer", "--method", "joint"), "joint", "images of all sessions")
    refused(call("init", "other", "--backbone", "tf_efficientnet_light0"), "tf_efficientnet_lite0")
    assert not (tmp_path / "other").exists()


def test_a_half_written_checkpoint(call: Call, shop: Path, tmp_path: Path) -> None:
    photos(tmp_path / "summer", "fig")
    (shop / "session-g1.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    refused(call("learn", "shop", "summer"), "session-g1.safetensors", "delete it", code=1)
    (shop / "session-g1.safetensors").unlink()
    assert call("learn", "shop", "summer")[0] == 0


def test_damaged_weights(call: Call, shop: Path) -> None:
    call("add", "shop", "spring")
    weights = shop / "generations" / "g0" / "network.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(
        call("search", "shop", "spring/apple/0.png"), str(weights.relative_to(shop)), "restore it from a copy", code=1
    )


def test_a_full_disk_while_saving(shop: Path, tmp_path: Path, call: Call) -> None:
    call("add", "shop", "spring")
    photos(tmp_path / "summer", "fig")
    limit = 100_000  # bytes a file may have; the weights need more
    answer = subprocess.run(
        [Path(sys.executable).with_name("scrubjay"), "learn", "shop", "summer"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    refused((answer.returncode, answer.stdout, answer.stderr), "trunks", "nothing was changed", code=1)
    assert sorted(path.name for path in (shop / "generations").iterdir()) == ["g0", "trunks"]
    assert len(list((shop / "generations" / "trunks").iterdir())) == 1
    assert call("search", "shop", "spring/apple/0.png")[0] == 0
    assert call("learn", "shop", "summer")[0] == 0


def test_a_query_that_is_no_image(call: Call, shop: Path, tmp_path: Path) -> None:
    call("add", "shop", "spring")
    (tmp_path / "query.jpg").write_text("no image")
    refused(call("search", "shop", "query.jpg"), "query.jpg", "not an image")
    refused(call("search", "shop", "gone.jpg"), "gone.jpg", "no such file")
    refused(call("search", "shop", "spring/apple/0.png", "-k", "0"), "k = 0")


def test_a_search_before_anything_was_added(call: Call, shop: Path) -> None:
    refused(call("search", "shop", "spring/apple/0.png"), "empty", "scrubjay add")


def test_a_folder_that_is_no_catalogue(call: Call, shop: Path, tmp_path: Path) -> None:
    refused(call("search", "nowhere", "spring/apple/0.png"), "nowhere", "scrubjay init")
    refused(call("status", "spring"), "spring", "scrubjay init")
    refused(call("init", "shop"), "shop", "already")
    refused(call("init", "spring"), "spring", "empty folder")


def test_broken_images_are_named_and_left_out(call: Call, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "spring" / "apple" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    code, out, err = call("add", "shop", "spring")
    assert code == 0
    assert "8 items" in out
    assert "broken.jpg" in err
    code, out, err = call("add", "shop", "spring/apple/broken.jpg")
    assert code == 0
    assert "broken.jpg" in err


def test_ctrl_c_and_the_same_command_again(shop: Path, tmp_path: Path, call: Call) -> None:
    import shutil
    import signal

    from scrubjay.models.checkpoint import load_tensors

    photos(tmp_path / "summer", "fig", "lime")
    shutil.copytree(shop, tmp_path / "whole")
    config = json.loads((shop / "catalogue.json").read_text())
    config["training"] |= {"epochs": 200, "increment_epochs": 200, "checkpoint_every": 10}
    for folder in ("shop", "whole"):
        (tmp_path / folder / "catalogue.json").write_text(json.dumps(config))
    assert call("learn", "whole", "summer")[0] == 0
    process = subprocess.Popen(
        [Path(sys.executable).with_name("scrubjay"), "learn", "shop", "summer"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until((shop / "session-g1.safetensors").exists, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=GUARD)
    assert process.returncode == 130, err
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert "interrupted" in call("status", "shop")[1]
    assert call("learn", "shop", "summer")[0] == 0
    one, _ = load_tensors(shop / "generations/g1/network.safetensors", "")
    other, _ = load_tensors(tmp_path / "whole/generations/g1/network.safetensors", "")
    assert all(bool((one[name] == other[name]).all()) for name in other)


def test_lists(call: Call) -> None:
    for command, known in {"methods": "mmd", "sources": "aviary", "backbones": "tf_efficientnet_lite0"}.items():
        code, out, _ = call(command)
        assert code == 0
        assert any(line.split()[0] == known and len(line.split()) > 1 for line in out.splitlines()), out[:300]
