from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scrubjay.checks import near_duplicates, wrong_labels
from scrubjay.checks.folder_check import FolderCheck, check_photos
from scrubjay.checks.near_duplicates import neighbours, thumbnail
from scrubjay.checks.wrong_labels import suspected
from scrubjay.errors import DataError
from scrubjay.types import Sample
from shops import copied, images
from tiny import Call, paint, photos


def found(check: FolderCheck, kind: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return [(finding.images, finding.items) for finding in check.findings if finding.kind == kind]


def scene(path: Path, seed: int) -> Image.Image:
    """A smooth image unlike those of other seeds."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((120, 90), Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return image


@pytest.mark.parametrize("block", [1, 5, 1000])
def test_neighbours_equal_loops(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_BLOCK", block)
    generator = np.random.default_rng(0)
    queries, vectors = (generator.standard_normal((n, 4)).astype(np.float32) for n in (7, 20))
    for row, near in enumerate(neighbours(queries, vectors, 3).tolist()):
        ranked = sorted(range(20), key=lambda other: -float(queries[row] @ vectors[other]))
        assert set(near) == set(ranked[:3])
    assert neighbours(queries, vectors[:2], 3).shape == (7, 2)
    assert neighbours(queries, vectors[:0], 3).shape == (7, 0)


def test_wrong_labels_equal_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrong_labels, "_BLOCK", 11)
    generator = np.random.default_rng(1)
    truth = [row % 4 for row in range(60)]
    vectors = np.eye(4, dtype=np.float32)[truth] + 0.35 * generator.standard_normal((60, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = [f"c{(each + (row in (3, 17, 30))) % 4}" for row, each in enumerate(truth)]
    names = sorted(set(labels))
    shares = []
    for row in range(60):
        near = sorted((other for other in range(60) if other != row), key=lambda o: -float(vectors[row] @ vectors[o]))
        weight = {name: sum(labels[o] == name for o in near[:8]) / labels.count(name) ** 0.5 for name in names}
        shares.append({name: weight[name] / sum(weight.values()) for name in names})
    sure = {name: np.mean([shares[row][name] for row in range(60) if labels[row] == name]) for name in names}
    expected = {}
    for row in range(60):
        usable = {name: share for name, share in shares[row].items() if share >= sure[name]}
        if usable:
            best = max(usable, key=lambda name: usable[name])
            if best != labels[row] and usable[best] > shares[row][labels[row]]:
                expected[row] = best
    result = suspected(labels, vectors, 60)
    assert {each.row: each.label for each in result} == expected
    assert {3, 17, 30} & expected.keys()
    assert [each.margin for each in result] == sorted((each.margin for each in result), reverse=True)
    assert all(labels[row] == each.label for each in result for row in each.neighbours)
    assert {each.row for each in suspected(labels, vectors, 10)} == {row for row in expected if row < 10}
    assert (
        suspected(["a"], vectors[:1], 1) == suspected([], vectors[:0], 0) == suspected(["a"] * 5, vectors[:5], 5) == []
    )


def test_altered_copies_are_nearly_the_same_and_others_are_not(tmp_path: Path) -> None:
    image = scene(tmp_path / "a.png", 0)
    image.save(tmp_path / "b.jpg", quality=30)
    image.resize((60, 45)).save(tmp_path / "c.png")
    image.point(lambda value: 0.6 * value).save(tmp_path / "d.png")
    image.crop((2, 2, 118, 88)).save(tmp_path / "e.png")
    scene(tmp_path / "f.png", 1)
    Image.new("RGB", (40, 40), "red").save(tmp_path / "flat.png")
    thumbs = near_duplicates.Thumbnails()
    first = Sample(tmp_path / "a.png", 0)
    for name in ("b.jpg", "c.png", "d.png", "e.png"):
        assert thumbs.same(first, Sample(tmp_path / name, 0)), name
    assert not thumbs.same(first, Sample(tmp_path / "f.png", 0))
    assert thumbnail(Sample(tmp_path / "flat.png", 0)) is None
    assert not thumbs.same(first, Sample(tmp_path / "missing.png", 0))


def test_a_folder_is_checked_against_a_catalogue(tmp_path: Path) -> None:
    shop = copied(tmp_path)
    folder = images(tmp_path / "new", "fig", "kiwi", train=6, test=0)
    scene(folder / "train/kiwi/scene.png", 5).resize((80, 60)).save(folder / "train/fig/small.png")
    scene(tmp_path / "item.png", 6).save(folder / "train/kiwi/copy.jpg", quality=40)
    shop.add([tmp_path / "item.png"])
    shutil.copy(folder / "train/kiwi/1.png", folder / "train/fig/again.png")
    shutil.copy(tmp_path / "spring/train/pear/0.png", folder / "train/kiwi/pear.png")
    shutil.copy(tmp_path / "spring/test/pear/100.png", folder / "train/kiwi/probe.png")
    (folder / "train/kiwi/broken.png").write_bytes(b"no image")
    paint(folder / "train/apple/new.png", 3, 77)
    paint(folder / "train/rare/new.png", 4, 78)
    check = check_photos(folder, shop.workspace)
    assert check.images == 21
    assert check.classes == {"apple": 1, "fig": 8, "kiwi": 10, "rare": 1}
    assert check.known_classes == ("apple",)
    assert check.new_classes == ("fig", "kiwi", "rare")
    assert found(check, "unreadable") == [(("train/kiwi/broken.png",), ())]
    assert found(check, "duplicate") == [(("train/fig/again.png", "train/kiwi/1.png"), ())]
    assert (("train/fig/small.png", "train/kiwi/scene.png"), ()) in found(check, "near_duplicate")
    item = next(item for item in shop.gallery.store.items() if item.uri.endswith("item.png"))
    assert (("train/kiwi/copy.jpg",), (item.id,)) in found(check, "near_duplicate")
    pear = shop.search(tmp_path / "spring/train/pear/0.png", 1)[0]
    assert found(check, "known") == [(("train/kiwi/pear.png",), (pear.id,)), (("train/kiwi/probe.png",), ())]
    assert found(check, "tiny_class") == [(("train/rare/new.png",), ())]
    for finding in check.findings:
        assert "\n" not in finding.message
        assert set(finding.images) <= {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}


def test_nothing_readable_is_no_error(tmp_path: Path) -> None:
    shop = copied(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "bad" / name).mkdir(parents=True)
        (tmp_path / "bad" / name / "x.png").write_bytes(b"no image")
    check = check_photos(tmp_path / "bad", shop.workspace)
    assert check.classes == {"a": 0, "b": 0}
    assert len(found(check, "unreadable")) == 2
    with pytest.raises(DataError, match="no such file or folder"):
        check_photos(tmp_path / "missing", shop.workspace)


def test_the_command_prints_a_table_or_json(tmp_path: Path, call: Call) -> None:
    shop = copied(tmp_path)
    folder = photos(tmp_path / "new", "fig", "kiwi", each=5)
    code, out, _ = call("check", str(folder), "--catalogue", str(shop.folder))
    assert code == 0
    assert "10 images of 2 classes." in out
    (folder / "kiwi/broken.png").write_bytes(b"no image")
    _, out, _ = call("check", str(folder), "--catalogue", str(shop.folder))
    assert "cannot be read: 1" in out
    assert "kiwi/broken.png: not an image" in out
    code, out, _ = call("check", str(folder), "--catalogue", str(shop.folder), "--json")
    assert code == 0
    assert json.loads(out)["classes"] == {"fig": 5, "kiwi": 5}
    code, _, err = call("check", str(tmp_path / "missing"))
    assert code == 2
    assert "no such file or folder" in err
