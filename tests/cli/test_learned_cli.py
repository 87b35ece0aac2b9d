"""Learning in closed form, forgetting and merging through the command line, and what a user may do wrong there."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from scrubjay.generations.lineage import Lineage
from scrubjay.models.checkpoint import load_tensors, save_tensors
from tiny import TINY, Call, photos
from waiting import GUARD, until


@pytest.fixture
def shop(call: Call, tmp_path: Path) -> Path:
    """A catalogue that has learned apples, pears and plums in closed form."""
    assert call("init", "shop", *TINY)[0] == 0
    photos(tmp_path / "spring", "apple", "pear", "plum", each=6)
    code, out, err = call("learn", "shop", "spring", "--add")
    assert (code, err) == (0, "")
    assert out.startswith("g0 (slda): 3 classes")
    return tmp_path / "shop"


def refused(answer: tuple[int, str, str], *parts: str, code: int = 2) -> None:
    assert answer[0] == code, answer
    (line,) = answer[2].strip().splitlines()
    assert line.startswith("scrubjay: ")
    for part in parts:
        assert part in line, line


def generations(shop: Path) -> list[str]:
    return [each.name for each in Lineage(shop / "generations").generations()]


def test_new_classes_and_more_images_of_known_ones(call: Call, shop: Path, tmp_path: Path) -> None:
    photos(tmp_path / "summer", "apple", each=12)
    photos(tmp_path / "summer", "fig", each=6)
    code, out, err = call("learn", "shop", "summer")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("g1 from g0 (slda): 4 classes")
    assert "more images of 1 known classes were learned." in out
    assert "6 images were left out, because they were learned or held out before." in out
    refused(call("learn", "shop", "summer"), "training images were learned before", "add new images")
    refused(call("learn", "shop", "spring", "--method", "l2"), "'apple'", "only the method slda")
    assert generations(shop) == ["g0", "g1"]


def test_the_backbone_is_trained_on_request(call: Call, shop: Path, tmp_path: Path) -> None:
    refused(call("learn", "shop", "spring", "--adapt", "first"), "shop: has learned already", "only a first session")
    call("init", "other", *TINY)
    refused(call("learn", "other", "spring", "--adapt", "always"), "adapt", "'always'")
    code, out, err = call("learn", "other", "spring", "--adapt", "first", "--add")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("training the backbone takes 1 s or more")
    one, other = (Lineage(tmp_path / name / "generations").get("g0").info.trunk for name in ("shop", "other"))
    assert one != other
    report = json.loads(call("forget", "other", "plum", "--json")[1])
    assert any("what the backbone of g0, g1 may have learned" in text for text in report["remains"])
    refused(call("merge", "shop", "other", "--out", "both"), "different trunks")


def test_training_the_backbone_is_offered_once(call: Call, tmp_path: Path) -> None:
    call("init", "shop", *TINY)
    photos(tmp_path / "spring", "apple", "pear", each=6)
    photos(tmp_path / "summer", "fig", each=6)
    offer = "its backbone was not trained; a new catalogue tries that with --adapt auto, in 1 s or more."
    assert call("learn", "shop", "spring")[1].splitlines()[1] == offer
    assert offer not in call("learn", "shop", "summer")[1]


def test_a_class_is_forgotten(call: Call, shop: Path) -> None:
    code, out, err = call("forget", "shop", "plum", "--image", "spring/apple/0.png")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "removed:"
    assert "  7  items of the gallery" in lines
    assert "g1 replaces g0." in lines
    assert any(line.startswith("not removed: the metric and the class names of g0") for line in lines)
    hits = json.loads(call("search", "shop", "spring/plum/0.png", "-k", "20", "--json")[1])["hits"]
    assert {hit["label"] for hit in hits} == {"apple", "pear"}
    assert len(hits) == 11
    refused(call("forget", "shop", "plum"), "'plum' was never learned or added", "There are: apple, pear.")


def test_the_report_of_a_removal_as_json(call: Call, shop: Path, tmp_path: Path) -> None:
    code, out, _ = call("forget", "shop", "--image", "spring/apple/1.png", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["classes"] == []
    assert report["removed"]["items of the gallery"] == 1
    assert report["generations"] == {"g0": "g1"}


def test_what_cannot_be_forgotten(call: Call, shop: Path, tmp_path: Path) -> None:
    refused(call("forget", "shop"), "name a class, or an image with --image")
    refused(call("forget", "shop", "pearr"), "'pearr' was never learned or added", "Did you mean 'pear'")
    refused(call("forget", "shop", "--image", "nowhere.png"), "nothing is stored of the image nowhere.png")
    refused(call("forget", "shop", "apple", "pear"), "needs two classes", "left: plum", "scrubjay learn shop")
    refused(call("forget", "nowhere", "apple"), "scrubjay init")
    assert generations(shop) == ["g0"]
    assert call("search", "shop", "spring/apple/0.png")[0] == 0


def test_two_catalogues_are_merged(call: Call, shop: Path, tmp_path: Path) -> None:
    call("init", "other", *TINY)
    photos(tmp_path / "autumn", "medlar", "rose", "pear", each=8)
    assert call("learn", "other", "autumn", "--add")[0] == 0
    code, out, err = call("merge", "shop", "other", "--out", "both")
    assert (code, err) == (0, "")
    assert "both: g1 has learned 5 classes, 1 of them from both." in out
    assert "18 items are only from other. 36 items were embedded by g1." in out
    hits = json.loads(call("search", "both", "autumn/rose/0.png", "-k", "3", "--json")[1])["hits"]
    assert {hit["label"] for hit in hits} == {"rose"}
    refused(call("merge", "shop", "other", "--out", "both"), "both: is in use")


def test_catalogues_over_different_trunks_are_not_merged(call: Call, shop: Path, tmp_path: Path) -> None:
    call("init", "other", *TINY, "--set", "images.size=40", "--set", "images.resize=44")
    photos(tmp_path / "autumn", "medlar", "rose", each=4)
    call("learn", "other", "autumn")
    refused(call("merge", "shop", "other", "--out", "both"), "shop (test_resnet, 32 px", "other (test_resnet, 40 px")
    assert not (tmp_path / "both").exists()


def test_classes_of_one_image(call: Call, tmp_path: Path) -> None:
    call("init", "shop", *TINY)
    photos(tmp_path / "spring", "apple", "pear", each=1)
    code, out, err = call("learn", "shop", "spring", "--add")
    assert (code, err) == (0, "")
    assert out.startswith("g0 (slda): 2 classes")
    assert json.loads(call("search", "shop", "spring/apple/0.png", "--json")[1])["hits"][0]["label"] == "apple"


def test_images_that_are_all_the_same(call: Call, tmp_path: Path) -> None:
    call("init", "shop", *TINY)
    for name in ("apple", "pear"):
        (tmp_path / "spring" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (40, 40)).save(tmp_path / "spring" / name / f"{number}.png")
    refused(call("learn", "shop", "spring"), "all classes have the same mean features")
    assert generations(tmp_path / "shop") == []
    photos(tmp_path / "spring", "apple", "pear")
    assert call("learn", "shop", "spring")[0] == 0


def test_features_that_are_not_finite(call: Call, shop: Path, tmp_path: Path) -> None:
    (path,) = (shop / "generations" / "trunks").iterdir()
    tensors, info = load_tensors(path, "")
    save_tensors(
        path, {name: value * torch.nan if value.is_floating_point() else value for name, value in tensors.items()}, info
    )
    photos(tmp_path / "summer", "fig")
    refused(call("learn", "shop", "summer"), "not finite")
    assert generations(shop) == ["g0"]


def test_statistics_of_another_era(call: Call, shop: Path, tmp_path: Path) -> None:
    call("init", "other", *TINY, "--set", "images.size=40", "--set", "images.resize=44")
    call("learn", "other", "spring")
    shutil.copy(tmp_path / "other/generations/statistics/g0.safetensors", shop / "generations/statistics")
    photos(tmp_path / "summer", "fig")
    refused(call("learn", "shop", "summer"), "of two trunks")
    assert generations(shop) == ["g0"]


def test_an_interrupted_pass_is_repeated_exactly(call: Call, shop: Path, tmp_path: Path) -> None:
    photos(tmp_path / "summer", "fig", "lime", each=60)
    shutil.copytree(shop, tmp_path / "whole")
    assert call("learn", "whole", "summer")[0] == 0
    process = subprocess.Popen(
        [Path(sys.executable).with_name("scrubjay"), "learn", "shop", "summer"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: Path(f"/proc/{process.pid}/maps").read_text().count("libtorch") > 0, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=GUARD)
    assert process.returncode in (130, -signal.SIGINT), err
    assert generations(shop) == ["g0"]
    assert call("learn", "shop", "summer")[0] == 0
    one, _ = load_tensors(shop / "generations/g1/network.safetensors", "")
    other, _ = load_tensors(tmp_path / "whole/generations/g1/network.safetensors", "")
    assert all(bool((one[name] == other[name]).all()) for name in other)
