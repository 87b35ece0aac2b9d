from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scrubjay.data.aviary import Album, bird_image, name
from scrubjay.data.aviary.species import PER_GENUS, species
from scrubjay.data.sources import source
from scrubjay.data.sources.aviary import Aviary
from scrubjay.errors import ConfigError, DataError, ScrubjayError, StorageError


def aviary(root: Path, **options: int) -> Aviary:
    return Aviary.parse({"root": root, "species": 3, "train": 2, "test": 1, "size": 48, **options})


def digests(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*.jpg"))}


def pixels(seed: int, index: int, split: Literal["train", "test"], number: int) -> np.ndarray:
    return np.asarray(bird_image(seed, index, split, number, 48), dtype=np.int16)


def test_dataset_lists_files_that_exist_in_label_order(tmp_path: Path) -> None:
    dataset = aviary(tmp_path).load()
    assert source("aviary") is Aviary
    assert dataset.classes == tuple(name(0, index) for index in range(3))
    assert [(s.label, s.split) for s in dataset.samples] == [
        (c, s) for c in range(3) for s in ("train", "train", "test")
    ]
    for sample in dataset.samples:
        assert sample.path.parts[-3:-1] == (sample.split, dataset.classes[sample.label])
        with Image.open(sample.path) as image:
            assert (image.size, image.mode) == ((48, 48), "RGB")


def test_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    aviary(tmp_path / "a").load()
    aviary(tmp_path / "b").load()
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert len(digests(tmp_path / "a")) == 9


def test_more_species_and_images_leave_the_earlier_ones_as_they_were(tmp_path: Path) -> None:
    aviary(tmp_path / "few").load()
    aviary(tmp_path / "many", species=30, train=3, test=2).load()
    few, many = digests(tmp_path / "few"), digests(tmp_path / "many")
    assert few.items() <= many.items()


def test_another_seed_or_size_is_another_folder(tmp_path: Path) -> None:
    folders = {aviary(tmp_path, **changed).load().root for changed in ({}, {"seed": 1}, {"size": 40})}
    assert len(folders) == 3
    assert not np.array_equal(pixels(0, 0, "train", 0), pixels(1, 0, "train", 0))


def test_a_second_load_draws_nothing(tmp_path: Path) -> None:
    first = aviary(tmp_path).load()
    times = {s.path: s.path.stat().st_mtime_ns for s in first.samples}
    second = aviary(tmp_path).load()
    assert second == first
    assert times == {s.path: s.path.stat().st_mtime_ns for s in second.samples}


def test_interrupted_drawing_is_continued(tmp_path: Path) -> None:
    complete = aviary(tmp_path).load()
    expected = digests(tmp_path)
    kept, *lost = [sample.path for sample in complete.samples]
    for path in lost:
        path.unlink()
    lost[0].with_name(f".{lost[0].name}.1").write_bytes(b"half an image")
    before = kept.stat().st_mtime_ns
    assert aviary(tmp_path).load() == complete
    assert digests(tmp_path) == expected
    assert kept.stat().st_mtime_ns == before


def test_helpers_draw_their_share(tmp_path: Path) -> None:
    options = ["species=3", "train=1", "test=1", "size=48", "seed=0"]
    subprocess.run([sys.executable, "-m", "scrubjay.data.aviary", "1/2", f"folder={tmp_path}", *options], check=True)
    assert {path.parent.name for path in tmp_path.rglob("*.jpg")} == {name(0, 1)}
    Album(str(tmp_path), 3, 1, 1, 48, 0).complete()
    alone = Album(str(tmp_path / "alone"), 3, 1, 1, 48, 0)
    alone.draw(0, 1)
    assert digests(Path(alone.folder)) == {k: v for k, v in digests(tmp_path).items() if not k.startswith("alone")}


def test_a_large_album_is_drawn_by_several_processes(tmp_path: Path) -> None:
    dataset = aviary(tmp_path, species=4, train=40, size=32).load()
    assert len(digests(dataset.root)) == len(dataset.samples) == 164
    assert not list(tmp_path.rglob(".*"))


def test_names_are_unique() -> None:
    assert len({name(0, index) for index in range(2000)}) == 2000


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), a=st.integers(0, 10**9), b=st.integers(0, 10**9))
def test_names_of_any_two_species_differ(seed: int, a: int, b: int) -> None:
    assert (name(seed, a) == name(seed, b)) == (a == b)
    assert all(word.replace("-", "").isalpha() for word in name(seed, a).split(" "))


def test_a_genus_shares_its_build_and_its_members_differ() -> None:
    genus = [species(0, index) for index in range(PER_GENUS)]
    assert len({bird.genus for bird in genus}) == len({bird.plan.nouns for bird in genus}) == 1
    assert len({bird.epithet for bird in genus}) == len({bird.plumage for bird in genus}) == len(genus)
    assert len({species(0, index * PER_GENUS).plan.nouns for index in range(5)}) == 5


def test_images_of_a_species_differ_from_each_other_and_between_the_splits() -> None:
    birds = [pixels(0, 4, "train", number) for number in range(5)] + [pixels(0, 4, "test", n) for n in range(5)]
    for first, bird in enumerate(birds):
        assert bird.std() > 5
        for other in birds[first + 1 :]:
            assert np.abs(bird - other).mean() > 5


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 99), index=st.integers(0, 5000), number=st.integers(0, 999), size=st.integers(32, 160))
def test_any_image_can_be_drawn(seed: int, index: int, number: int, size: int) -> None:
    image = bird_image(seed, index, "train", number, size)
    assert (image.size, image.mode) == ((size, size), "RGB")


@pytest.mark.parametrize("wrong", [{"species": 0}, {"train": 0}, {"test": -1}, {"size": 8}, {"seed": -1}, {"genus": 1}])
def test_wrong_options_are_refused_by_name(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))) as caught:
        aviary(tmp_path, **wrong)
    assert "\n" not in str(caught.value)


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match="not a folder") as caught:
            aviary(root).load()
        assert "\n" not in str(caught.value)


def test_a_root_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written") as caught:
        aviary(tmp_path / ("x" * 300)).load()
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ScrubjayError)


def test_the_default_root_is_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Aviary().root == tmp_path / "scrubjay" / "aviary"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Aviary().root == tmp_path / "home" / ".cache" / "scrubjay" / "aviary"


def test_importing_it_does_not_import_torch() -> None:
    code = "import sys, scrubjay.data.sources.aviary, scrubjay.data.aviary; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
