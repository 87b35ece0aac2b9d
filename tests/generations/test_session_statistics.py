"""Statistics of sessions on disk: exact along a line, and after a removal as if the images had never been seen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import tiny
from scrubjay.closed_form.statistics import Statistics
from scrubjay.errors import CheckpointError, DataError
from scrubjay.generations.generation import Generation
from scrubjay.generations.session_statistics import SessionStatistics, TrainingImages
from scrubjay.generations.statistics_folder import StatisticsFolder

ERA = "0" * 32
CROPS = 3


def images(classes: int, each: int, dim: int, seed: int = 0, kept: bool = True) -> SessionStatistics:
    """A session of random features whose channels differ in scale."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(-3, 2, dim)
    labels = torch.arange(classes).repeat_interleave(each)
    features = (torch.randn(classes * each, CROPS, dim, generator=generator) + 1) * scale
    names = tuple(f"{seed:08x}{number:024x}" for number in range(len(labels)))
    return session(tuple(f"class{label}" for label in range(classes)), names, labels, features.half(), kept)


def session(
    classes: tuple[str, ...], hashes: tuple[str, ...], labels: Tensor, features: Tensor, kept: bool = True
) -> SessionStatistics:
    statistics = Statistics.of(ERA, features.flatten(0, 1), labels.repeat_interleave(CROPS))
    return SessionStatistics.of_session(classes, statistics, TrainingImages(hashes, labels, features if kept else None))


def assert_close(one: Statistics, other: Statistics) -> None:
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.counts, other.counts)
    torch.testing.assert_close(one.means, other.means, rtol=1e-12, atol=1e-12)
    bound = 1e-11 * float(other.scatter.abs().max().clamp_min(1))
    torch.testing.assert_close(one.scatter, other.scatter, rtol=1e-10, atol=bound)


@settings(max_examples=25, deadline=None)
@given(gone=st.sets(st.integers(0, 3), max_size=3), single=st.sets(st.integers(0, 15), max_size=9))
def test_what_is_left_is_as_if_it_had_been_all(gone: set[int], single: set[int]) -> None:
    whole = images(4, 4, 6)
    assert whole.images is not None
    assert whole.images.features is not None
    names = {f"class{label}" for label in gone}
    hashes = {whole.images.hashes[number] for number in single}
    left = whole.without(names, hashes, {})
    rows = [row for row in range(16) if row // 4 not in gone and row not in single]
    alone = session(
        whole.classes,
        tuple(whole.images.hashes[row] for row in rows),
        whole.images.labels[rows],
        whole.images.features[rows],
    )
    assert left.classes == alone.classes == whole.classes_without(names, hashes)
    assert left.crops == CROPS
    assert left.images is not None
    assert alone.images is not None
    assert left.images.hashes == alone.images.hashes
    assert torch.equal(left.images.labels, alone.images.labels)
    assert_close(left.statistics, alone.statistics)
    assert left.without(names, hashes, {}) is left, "the same removal again removes nothing"


@pytest.mark.parametrize(("each", "dim"), [(2, 40), (20, 6)], ids=["few images", "many images"])
@pytest.mark.parametrize("kept", [True, False])
def test_what_is_stored_comes_back(tmp_path: Path, each: int, dim: int, kept: bool) -> None:
    stored = images(3, each, dim, kept=kept)
    folder = StatisticsFolder(tmp_path / "statistics")
    folder.put("g1", stored)
    found = folder.get("g1")
    assert found.classes == stored.classes
    assert found.images is not None
    assert stored.images is not None
    assert found.images.hashes == stored.images.hashes
    assert (found.images.features is None) == (not kept)
    assert found.statistics.era == ERA
    assert_close(found.statistics, stored.statistics)
    assert folder.paths() == [folder.path("g1")]


def test_statistics_that_follow_from_kept_features_are_not_stored(tmp_path: Path) -> None:
    images(3, 2, 40).save(tmp_path / "kept")
    images(3, 2, 40, kept=False).save(tmp_path / "not")
    assert (tmp_path / "kept").stat().st_size < (tmp_path / "not").stat().st_size


def test_nothing_is_left_where_all_is_removed(tmp_path: Path) -> None:
    empty = images(2, 3, 5).without(("class0", "class1"), (), {})
    empty.save(tmp_path / "empty")
    found, _ = SessionStatistics.load(tmp_path / "empty")
    assert (found.classes, found.statistics.total) == ((), 0)


def test_the_features_of_a_removed_image_may_be_given() -> None:
    whole, kept = images(3, 4, 5, kept=False), images(3, 4, 5)
    assert kept.images is not None
    assert kept.images.features is not None
    given_features = dict(zip(kept.images.hashes, kept.images.features, strict=True))
    assert_close(whole.without(["class1"], (), given_features).statistics, kept.without(["class1"], (), {}).statistics)
    with pytest.raises(DataError, match=r"the features of 4 of 4 images to remove are not stored.*--images"):
        whole.without(["class1"], (), {})


def test_a_class_whose_images_are_not_known_cannot_be_removed() -> None:
    known = images(2, 3, 5)
    imported = SessionStatistics.of_session(known.classes, known.statistics)
    with pytest.raises(DataError, match="class 'class1' was learned in a run, whose images are not known"):
        imported.without(["class1", "other"], (), {})
    assert imported.without(["other"], ["a" * 32], {}) is imported


def line(*names: str, classes: tuple[str, ...]) -> Generation:
    return Generation(Path(names[-1]), tiny.info(names[-1], classes=classes, statistics=names))


def test_the_statistics_of_a_line_are_the_sum_by_name(tmp_path: Path) -> None:
    folder = StatisticsFolder(tmp_path)
    first, second = images(2, 3, 5), images(2, 3, 5, seed=1)
    folder.put("g0", first)
    folder.put("g1", SessionStatistics.of_session(("class1", "new"), second.statistics, second.images))
    total = folder.total(line("g0", "g1", classes=("new", "class0", "class1")))
    assert total is not None
    assert_close(total, first.statistics.relabelled({0: 1, 1: 2}) + second.statistics.relabelled({0: 2, 1: 0}))
    assert folder.total(Generation(Path("g0"), tiny.info("g0"))) is None
    with pytest.raises(CheckpointError, match="class 'new' has statistics but the generation has not learned it"):
        folder.total(line("g0", "g1", classes=("class0", "class1")))


@pytest.mark.parametrize("damage", ["gone", "torn", "noise", "other"])
def test_damaged_statistics_are_named_with_the_cure(tmp_path: Path, damage: str) -> None:
    folder = StatisticsFolder(tmp_path)
    folder.put("g0", images(2, 3, 5))
    path = folder.path("g0")
    if damage == "gone":
        path.unlink()
    elif damage == "other":
        from scrubjay.models.checkpoint import save_tensors

        save_tensors(path, {"vectors": torch.zeros(3)}, {})
    else:
        path.write_bytes(path.read_bytes()[:-5] if damage == "torn" else b"\x00\xff" * 40)
    with pytest.raises(CheckpointError, match=r"g0\.safetensors: .*: restore it from a copy") as caught:
        folder.total(line("g0", classes=("class0", "class1")))
    assert "\n" not in str(caught.value)
