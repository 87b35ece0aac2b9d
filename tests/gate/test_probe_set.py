"""The probe set by itself; how the gate uses it is tested in promotion/test_gate_report.py."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scrubjay.data.photos import content_hash
from scrubjay.errors import CheckpointError, ImageError, StorageError
from scrubjay.gate.probe_set import ProbeOptions, ProbeSet
from scrubjay.models.checkpoint import load_tensors
from scrubjay.types import Sample
from tiny import paint

Vectors = NDArray[np.float32]


def held(root: Path, **classes: int) -> list[tuple[Sample, str]]:
    """Held-out images: so many of each class."""
    return [
        (Sample(paint(root / label / f"{number}.png", len(label), number, 8), 0), label)
        for label, count in classes.items()
        for number in range(count)
    ]


def no_crops(samples: Sequence[Sample], number: int) -> Vectors:
    raise AssertionError("no embeddings are asked for where images are kept")


def crops(samples: Sequence[Sample], number: int) -> Vectors:
    """Of the image in row r, crop c: (r, c)."""
    rows, columns = np.mgrid[: len(samples), : 1 + number]
    return np.stack([rows, columns], axis=-1).astype(np.float32)


def by_name(samples: Sequence[Sample]) -> Vectors:
    return np.array([[int(sample.path.stem), len(samples)] for sample in samples], dtype=np.float32)


def not_asked(*_: object) -> Vectors:
    raise AssertionError("nothing is to be embedded or carried")


@settings(max_examples=20)
@given(counts=st.dictionaries(st.sampled_from(["apple", "pear", "fig"]), st.integers(0, 5)), kept=st.integers(0, 4))
def test_the_first_of_each_class_are_kept_as_far_as_there_are_any(counts: dict[str, int], kept: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        root, probe = Path(folder), ProbeSet(Path(folder) / "probe")
        images = held(root / "images", **counts)
        probe.keep("g0", images, ProbeOptions(images=kept), no_crops)
        found = probe.probes(["g0"])
        expected = [(str(sample.path), label) for sample, label in images if int(sample.path.stem) < kept]
        assert [(each.original, each.label) for each in found] == expected
        assert [each.id for each in found] == [content_hash(Sample(Path(path), 0)) for path, _ in expected]
        assert len(list((root / "probe" / "g0").iterdir())) == 1 + len(expected)


def test_copies_outlive_what_they_are_copies_of(tmp_path: Path) -> None:
    images = held(tmp_path / "images", apple=2)
    content = [sample.path.read_bytes() for sample, _ in images]
    ProbeSet(tmp_path / "probe").keep("g0", images, ProbeOptions(), no_crops)
    for sample, _ in images:
        sample.path.unlink()
    probes = ProbeSet(tmp_path / "probe").probes(["g0"])
    assert [each.sample.path.read_bytes() for each in probes if each.sample] == content
    assert {each.generation for each in probes} == {"g0"}


def test_a_box_stays_with_its_image(tmp_path: Path) -> None:
    path = paint(tmp_path / "two.png", 1, 1, 20)
    images = [(Sample(path, 0, "test", (0, 0, 9, 9)), "apple"), (Sample(path, 0, "test", (9, 9, 20, 20)), "pear")]
    probe = ProbeSet(tmp_path / "probe")
    probe.keep("g0", images, ProbeOptions(), no_crops)
    one, other = probe.probes(["g0"])
    assert one.sample is not None
    assert other.sample is not None
    assert (one.sample.box, other.sample.box) == ((0, 0, 9, 9), (9, 9, 20, 20))
    assert [one.id, other.id] == [content_hash(sample) for sample, _ in images]
    assert content_hash(other.sample) == other.id


def test_generations_come_in_the_order_asked_and_those_without_are_passed_over(tmp_path: Path) -> None:
    probe = ProbeSet(tmp_path / "probe")
    probe.keep("g0", held(tmp_path / "a", apple=1), ProbeOptions(), no_crops)
    probe.keep("g2", held(tmp_path / "b", fig=2), ProbeOptions(), no_crops)
    probe.keep("g3", [], ProbeOptions(), no_crops)
    assert [each.label for each in probe.probes(["g2", "g1", "g3", "g0"])] == ["fig", "fig", "apple"]
    found = probe.queries(["g2", "g1", "g3", "g0"], "print", by_name, not_asked)
    assert [probe.label for probe in found.probes] == ["fig", "fig", "apple"]
    assert found.vectors.tolist() == [[0, 2], [1, 2], [0, 1]]
    nothing = probe.queries(["g1", "g3"], "print", by_name, not_asked)
    assert (len(nothing.vectors), nothing.probes) == (0, ())


def test_what_was_embedded_once_is_kept_by_the_fingerprint(tmp_path: Path) -> None:
    probe = ProbeSet(tmp_path / "probe")
    probe.keep("g0", held(tmp_path / "a", apple=2), ProbeOptions(), no_crops)
    first = probe.queries(["g0"], "one", by_name, not_asked)
    again = ProbeSet(tmp_path / "probe").queries(["g0"], "one", not_asked, not_asked)
    assert np.array_equal(first.vectors, again.vectors)
    other = probe.queries(["g0"], "other", lambda samples: 7 + by_name(samples), not_asked)
    assert np.array_equal(other.vectors, first.vectors + 7)


@pytest.mark.parametrize("number", [1, 3])
def test_where_images_may_not_be_kept_their_crops_stand_for_them(tmp_path: Path, number: int) -> None:
    probe = ProbeSet(tmp_path / "probe")
    images = held(tmp_path / "a", apple=1, pear=2)
    probe.keep("g0", images, ProbeOptions(keep="embeddings", crops=number), crops)
    names = {path.name for path in (tmp_path / "probe" / "g0").iterdir()}
    assert names == {"index.json", "crops.safetensors"}, "no image is kept"
    carried: list[str] = []

    def carry(name: str, vectors: Vectors) -> Vectors:
        carried.append(name)
        return 2 * vectors

    found = probe.queries(["g0"], "print", not_asked, carry)
    assert carried == ["g0"]
    assert [probe.label for probe in found.probes] == ["apple"] * (1 + number) + ["pear"] * 2 * (1 + number)
    assert found.vectors.tolist() == [[2 * row, 2 * crop] for row in range(3) for crop in range(1 + number)]
    assert [each.id for each in found.probes[:: 1 + number]] == [content_hash(sample) for sample, _ in images]
    assert all(each.sample is None for each in found.probes)


def test_images_and_crops_of_different_generations_stand_side_by_side(tmp_path: Path) -> None:
    """The option was changed between two sessions."""
    probe = ProbeSet(tmp_path / "probe")
    probe.keep("g0", held(tmp_path / "a", apple=1), ProbeOptions(), no_crops)
    probe.keep("g1", held(tmp_path / "b", fig=1), ProbeOptions(keep="embeddings", crops=1), crops)
    found = probe.queries(["g0", "g1"], "print", by_name, lambda name, vectors: vectors)
    assert [probe.label for probe in found.probes] == ["apple", "fig", "fig"]
    assert len(found.vectors) == 3


def test_the_same_generation_again_replaces_what_was_kept(tmp_path: Path) -> None:
    """Learning was cut short after its probe images were kept, and begun anew with others."""
    probe = ProbeSet(tmp_path / "probe")
    probe.keep("g0", held(tmp_path / "a", apple=3), ProbeOptions(), no_crops)
    probe.queries(["g0"], "print", by_name, not_asked)
    probe.keep("g0", held(tmp_path / "b", fig=1), ProbeOptions(), no_crops)
    assert [each.label for each in probe.probes(["g0"])] == ["fig"]
    assert probe.queries(["g0"], "print", by_name, not_asked).vectors.tolist() == [[0, 1]]
    assert [path.name for path in probe.folder.iterdir()] == ["g0"]


def test_what_cannot_be_kept_leaves_nothing(tmp_path: Path) -> None:
    probe = ProbeSet(tmp_path / "probe")
    images = held(tmp_path / "a", apple=2)
    images[1][0].path.unlink()
    with pytest.raises(ImageError, match=r"1\.png: no such file"):
        probe.keep("g0", images, ProbeOptions(), no_crops)
    assert list(probe.folder.iterdir()) == []

    def broken(samples: Sequence[Sample], number: int) -> Vectors:
        raise ImageError("cannot be decoded")

    with pytest.raises(ImageError, match="cannot be decoded"):
        probe.keep("g0", images[:1], ProbeOptions(keep="embeddings"), broken)
    assert list(probe.folder.iterdir()) == []
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="the probe set could not be written"):
        ProbeSet(tmp_path / "file").keep("g0", images[:1], ProbeOptions(), no_crops)


def test_what_a_killed_process_of_the_same_number_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """In containers numbers of processes come again."""
    probe = ProbeSet(tmp_path / "probe")
    left = probe.folder / f".g0.{os.getpid()}"
    left.mkdir(parents=True)
    (left / "0007.png").write_text("half")
    probe.keep("g0", held(tmp_path / "a", apple=1), ProbeOptions(), no_crops)
    assert sorted(path.name for path in (probe.folder / "g0").iterdir()) == ["0000.png", "index.json"]
    assert not left.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"images": 3}', '{"images": [{"label": "apple"}]}', "\x00"])
def test_a_damaged_index_is_one_line_with_the_cure(tmp_path: Path, content: str) -> None:
    probe = ProbeSet(tmp_path / "probe")
    probe.keep("g0", held(tmp_path / "a", apple=1), ProbeOptions(), no_crops)
    (probe.folder / "g0" / "index.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"g0/index\.json: damaged .*restore it, or move") as raised:
        probe.probes(["g0"])
    assert "\n" not in str(raised.value)
    assert probe.probes(["g1"]) == []


def test_damaged_embeddings_are_one_line_and_images_are_embedded_again(tmp_path: Path) -> None:
    probe = ProbeSet(tmp_path / "probe")
    probe.keep("g0", held(tmp_path / "a", apple=1), ProbeOptions(), no_crops)
    probe.queries(["g0"], "print", by_name, not_asked)
    path = probe.folder / "g0" / "by-print.safetensors"
    path.write_bytes(b"noise")
    with pytest.raises(CheckpointError, match=r"by-print\.safetensors: damaged.*delete it"):
        probe.queries(["g0"], "print", by_name, not_asked)
    path.unlink()
    assert len(probe.queries(["g0"], "print", by_name, not_asked).vectors) == 1


def test_the_index_is_readable(tmp_path: Path) -> None:
    probe = ProbeSet(tmp_path / "probe")
    images = held(tmp_path / "a", apple=1)
    probe.keep("g0", images, ProbeOptions(), no_crops)
    index = json.loads((probe.folder / "g0" / "index.json").read_text())
    assert index["kind"] == "images"
    (row,) = index["images"]
    assert row == {
        "hash": content_hash(images[0][0]),
        "label": "apple",
        "original": str(images[0][0].path),
        "file": "0000.png",
        "box": None,
    }


@pytest.mark.parametrize("cut", [None, "index", "rest"], ids=["whole", "cut after the index", "cut before the index"])
def test_removed_images_are_gone_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str | None) -> None:
    probe = ProbeSet(tmp_path / "probe")
    images = held(tmp_path / "a", apple=2, pear=2)
    single = content_hash(images[2][0])
    probe.keep("g0", images, ProbeOptions(), no_crops)
    probe.keep("g1", held(tmp_path / "b", fig=1), ProbeOptions(), no_crops)
    probe.queries(["g0", "g1"], "print", by_name, not_asked)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    if cut is not None:
        with monkeypatch.context() as patched:
            patched.setattr(f"scrubjay.gate.probe_set.{'_delete_unlisted' if cut == 'index' else 'write_json'}", killed)
            with pytest.raises(KeyboardInterrupt):
                probe.remove(["apple"], [single])
    probe.remove(["apple"], [single])
    assert [each.label for each in probe.probes(["g0", "g1"])] == ["pear", "fig"]
    assert sorted(path.name for path in (probe.folder / "g0").iterdir()) == ["0003.png", "index.json"]
    assert (probe.folder / "g1" / "by-print.safetensors").exists(), "another folder is as it was"
    found = probe.queries(["g0", "g1"], "print", by_name, not_asked)
    np.testing.assert_array_equal(found.vectors, [[3, 1], [0, 1]])


def test_crops_of_removed_images_are_zeros_and_others_keep_their_rows(tmp_path: Path) -> None:
    probe = ProbeSet(tmp_path / "probe")
    images = held(tmp_path / "a", apple=1, pear=3)
    probe.keep("g0", images, ProbeOptions(keep="embeddings", crops=1), crops)
    probe.remove(["apple"], [])
    probe.remove([], [content_hash(images[2][0])])
    found = probe.queries(["g0"], "print", not_asked, lambda _, vectors: vectors)
    np.testing.assert_array_equal(found.vectors, [[1, 0], [1, 1], [3, 0], [3, 1]])
    assert [each.id for each in found.probes] == [content_hash(images[row][0]) for row in (1, 1, 3, 3)]
    stored = load_tensors(probe.folder / "g0" / "crops.safetensors", "")[0]["vectors"]
    assert not stored[[0, 2]].any()
    probe.remove(["pear"], [])
    assert len(probe.queries(["g0"], "print", not_asked, not_asked).probes) == 0
