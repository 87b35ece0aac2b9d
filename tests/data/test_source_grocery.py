from __future__ import annotations

import io
import random
import shutil
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from scrubjay.data.sources import source
from scrubjay.data.sources.grocery import Grocery
from scrubjay.errors import DataError, StorageError

LISTS = {
    "train.txt": "train/Fruit/Apple/1.jpg, 0, 0\ntrain/Milk/1.jpg, 1, 3\n",
    "val.txt": "val/Milk/1.jpg, 1, 3\n",
    "test.txt": "test/Milk/1.jpg, 1, 3\n\n",
    "classes.csv": 'Class Name (str),Class ID (int),Coarse Class Name (str)\nApple,0,Fruit\n"Milk, fresh",1,Milk\n',
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "published" / "GroceryStoreDataset" / "dataset"
    for line in (line for name in ("train.txt", "val.txt", "test.txt") for line in LISTS[name].split("\n") if line):
        path = root / line.split(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    for name, text in LISTS.items():
        (root / name).write_text(text)
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SCRUBJAY_GROCERY", raising=False)
    return tmp_path / "cache" / "scrubjay"


def test_published_lists(tree: Path) -> None:
    dataset = Grocery(root=tree).load()
    assert (dataset.name, dataset.root, dataset.classes) == ("grocery", tree, ("Apple", "Milk, fresh"))
    assert [(str(s.path.relative_to(tree)), s.label, s.split) for s in dataset.samples] == [
        ("train/Fruit/Apple/1.jpg", 0, "train"),
        ("train/Milk/1.jpg", 1, "train"),
        ("val/Milk/1.jpg", 1, "train"),
        ("test/Milk/1.jpg", 1, "test"),
    ]
    assert len(Grocery(root=tree, val="ignore").load().samples) == 3


def test_the_folder_is_found_inside_the_repository(tree: Path) -> None:
    assert Grocery(root=tree.parent).load().root == tree
    assert Grocery(root=tree.parents[1]).load().root == tree


def test_root_from_the_environment(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"SCRUBJAY_GROCERY is not set; give .*Klasson et al\., WACV 2019"):
        Grocery().load()
    monkeypatch.setenv("SCRUBJAY_GROCERY", str(tree))
    assert Grocery().load().root == tree


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "bztar", "xztar"])
def test_archives_are_unpacked_once(tree: Path, tmp_path: Path, cache: Path, kind: str) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "grocery"), kind, tree.parents[1]))
    first = Grocery(root=archive).load()
    assert len(first.samples) == 4
    assert all(sample.path.is_file() and sample.path.is_relative_to(cache) for sample in first.samples)
    stamp = first.samples[0].path.stat().st_mtime_ns
    assert Grocery(root=archive).load() == first
    assert first.samples[0].path.stat().st_mtime_ns == stamp
    assert len(list(cache.iterdir())) == 1


def overwritten(content: bytes, start: int, count: int) -> bytes:
    return content[:start] + b"\xff" * count + content[start + count :]


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "bztar", "xztar"])
def test_damaged_archives(tree: Path, tmp_path: Path, cache: Path, kind: str) -> None:
    for number in range(20):
        (tree / f"{number}.png").write_bytes(random.Random(number).randbytes(4096))
    archive = Path(shutil.make_archive(str(tmp_path / "grocery"), kind, tree.parents[1]))
    whole = archive.read_bytes()
    middle = len(whole) // 2
    # 6,000 bytes: wherever they lie, a header of a plain tar, which has no checksum over content, is among them.
    for damaged in (whole[:middle], whole[: -(-middle // 512) * 512], overwritten(whole, middle, 6000)):
        archive.write_bytes(damaged)
        with pytest.raises(
            DataError, match=r"grocery\.\w+.*: (damaged archive .*; download it again|neither a folder)"
        ):
            Grocery(root=archive).load()
        assert not list(cache.glob("*"))


def test_archive_that_leads_out_of_its_folder(tmp_path: Path, cache: Path) -> None:
    zipped, tarred = tmp_path / "bad.zip", tmp_path / "bad.tar"
    for name in ("../../evil.txt", str(tmp_path / "evil.txt")):
        with zipfile.ZipFile(zipped, "w") as archive:
            archive.writestr(name, "evil")
        with tarfile.open(tarred, "w") as archive:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
        for path in (zipped, tarred):
            with pytest.raises(DataError, match=rf"{path.name}: path '.*evil\.txt' leads out of"):
                Grocery(root=path).load()
    assert not list(tmp_path.rglob("evil.txt"))
    assert not list(cache.glob("*"))


def test_links_in_archives_are_left_out(tmp_path: Path, tree: Path) -> None:
    (tree / "train" / "link.jpg").symlink_to("/etc/passwd")
    archive = shutil.make_archive(str(tmp_path / "grocery"), "tar", tree.parents[1])
    root = Grocery(root=Path(archive)).load().root
    assert not (root / "train" / "link.jpg").exists()
    assert not (root / "train" / "link.jpg").is_symlink()


def test_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "letter.zip"
    path.write_text("a letter")
    with pytest.raises(DataError, match=r"letter\.zip: neither a folder nor a \.zip or \.tar archive"):
        Grocery(root=path).load()


def test_cache_folder_that_cannot_be_written(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = shutil.make_archive(str(tmp_path / "grocery"), "zip", tree.parents[1])
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(StorageError, match=r"cannot be written .*; set XDG_CACHE_HOME"):
        Grocery(root=Path(archive)).load()


def test_something_in_the_way_of_the_cache(tmp_path: Path, tree: Path, cache: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "grocery"), "zip", tree.parents[1]))
    Grocery(root=archive).load()
    (unpacked,) = cache.iterdir()
    shutil.rmtree(unpacked)
    unpacked.write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot be written .*; free some space, or set XDG_CACHE_HOME"):
        Grocery(root=archive).load()
    assert list(cache.iterdir()) == [unpacked]


def test_lists_that_are_no_text(tree: Path) -> None:
    (tree / "test.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"test\.txt: not text in UTF-8; restore it"):
        Grocery(root=tree).load()
    (tree / "test.txt").unlink()
    (tree / "test.txt").mkdir()
    with pytest.raises(DataError, match=r"test\.txt: cannot be read \(Is a directory\)"):
        Grocery(root=tree).load()


def test_two_data_sets_in_one_folder(tree: Path) -> None:
    shutil.copytree(tree, tree.parent / "copy")
    with pytest.raises(DataError, match=r"train\.txt is in 2 folders; give one of them: .*copy"):
        Grocery(root=tree.parent).load()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.txt", "train/1.jpg, apple, 0\n", r"train\.txt, line 1: expected path, fine label, coarse label"),
        ("val.txt", "val/1.jpg, 0, 0\nval/2.jpg\n", r"val\.txt, line 2: expected path"),
        ("test.txt", "test/1.jpg, 2, 0\n", r"test\.txt, line 1: label 2 is not one of the 2 in classes\.csv"),
        ("train.txt", "../../1.jpg, 0, 0\n", r"train\.txt, line 1: path '\.\./\.\./1\.jpg' leads out of"),
        ("classes.csv", "name,number\nApple,zero\n", r"classes\.csv, line 2: expected name, number"),
        ("classes.csv", "name,number\nApple,0\nMilk,2\n", r"classes\.csv: class numbers do not run from 0"),
        ("classes.csv", "", r"classes\.csv: class numbers do not run from 0"),
    ],
)
def test_lists_that_are_not_as_published(tree: Path, name: str, text: str, message: str) -> None:
    (tree / name).write_text(text)
    with pytest.raises(DataError, match=message):
        Grocery(root=tree).load()


def test_lists_that_are_missing(tree: Path, tmp_path: Path) -> None:
    (tree / "test.txt").unlink()
    with pytest.raises(DataError, match=r"test\.txt: no such file; restore it"):
        Grocery(root=tree).load()
    (tree / "train.txt").unlink()
    with pytest.raises(
        DataError, match=r"it does not contain train\.txt; give the folder of the Grocery Store dataset"
    ):
        Grocery(root=tree).load()
    with pytest.raises(DataError, match="gone: no such folder"):
        Grocery(root=tmp_path / "gone").load()


def test_real_data_set(grocery: Path) -> None:
    dataset = Grocery(root=grocery).load()
    assert len(dataset.classes) == 81
    assert Counter(sample.split for sample in dataset.samples) == {"train": 2640 + 296, "test": 2485}
    assert dataset.classes[0] == "Golden-Delicious"
    assert all(sample.path.is_file() for sample in dataset.samples)


def test_found_by_name() -> None:
    assert source("grocery") is Grocery
