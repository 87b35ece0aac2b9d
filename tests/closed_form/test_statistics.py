"""Sufficient statistics: exact in any order and any split, and exactly removable."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scrubjay.closed_form.statistics import BLOCK, Accumulator, Statistics
from scrubjay.errors import CheckpointError, DataError, SpaceError

ERA = "e" * 32
WIDTH = 5


def rows(seed: int, number: int, classes: int, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(number, WIDTH, generator=generator, dtype=torch.float64) + offset
    return features, torch.randint(0, classes, (number,), generator=generator)


def by_loops(features: Tensor, labels: Tensor) -> tuple[dict[int, int], dict[int, Tensor], Tensor]:
    """Counts, means and scatter by the two-pass formula, one vector at a time."""
    counts: dict[int, int] = {}
    means: dict[int, Tensor] = {}
    for label in sorted(set(labels.tolist())):
        members = [row for row, other in zip(features, labels.tolist(), strict=True) if other == label]
        counts[label] = len(members)
        means[label] = sum(members[1:], start=members[0]) / len(members)
    scatter = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
    for row, label in zip(features, labels.tolist(), strict=True):
        deviation = row - means[label]
        scatter += torch.outer(deviation, deviation)
    return counts, means, scatter


def assert_same(one: Statistics, other: Statistics, scale: float = 1.0) -> None:
    """Equal up to 1e-12 of the size of the features."""
    assert one.era == other.era
    assert one.labels.tolist() == other.labels.tolist()
    assert one.counts.tolist() == other.counts.tolist()
    torch.testing.assert_close(one.means, other.means, rtol=0, atol=1e-12 * scale)
    torch.testing.assert_close(one.scatter, other.scatter, rtol=0, atol=1e-12 * scale**2 * max(1, one.total))


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 6), st.sampled_from([0.0, 1e4]))
def test_equals_the_two_pass_formula(seed: int, number: int, classes: int, offset: float) -> None:
    features, labels = rows(seed, number, classes, offset)
    statistics = Statistics.of(ERA, features, labels)
    counts, means, scatter = by_loops(features, labels)
    assert dict(zip(statistics.labels.tolist(), statistics.counts.tolist(), strict=True)) == counts
    torch.testing.assert_close(statistics.means, torch.stack(list(means.values())), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(statistics.scatter, scatter, rtol=0, atol=1e-12 * number * max(1, offset))


@given(
    st.integers(0, 2**31),
    st.integers(2, 40),
    st.integers(1, 6),
    st.lists(st.integers(1, 39), max_size=4),
    st.sampled_from([0.0, 1e4]),
)
def test_any_split_in_any_order_gives_the_same(
    seed: int, number: int, classes: int, cuts: list[int], offset: float
) -> None:
    features, labels = rows(seed, number, classes, offset)
    whole = Statistics.of(ERA, features, labels)
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    bounds = [0, *sorted({cut for cut in cuts if cut < number}), number]
    total = Statistics.empty(ERA, WIDTH)
    for start, stop in itertools.pairwise(bounds):
        part = order[start:stop]
        total = total + Statistics.of(ERA, features[part], labels[part])
    assert_same(total, whole, max(1.0, offset))


@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(1, 6), st.data())
def test_what_was_added_can_be_removed(seed: int, number: int, classes: int, data: st.DataObject) -> None:
    features, labels = rows(seed, number, classes)
    removed = torch.tensor(data.draw(st.lists(st.booleans(), min_size=number, max_size=number)))
    left = Statistics.of(ERA, features, labels) - Statistics.of(ERA, features[removed], labels[removed])
    expected = Statistics.of(ERA, features[~removed], labels[~removed])
    assert left.labels.tolist() == expected.labels.tolist()
    assert_same(left, expected, 10.0)


def test_a_stream_is_accumulated_in_blocks() -> None:
    features, labels = rows(0, BLOCK + 100, 3)
    collected = Accumulator(ERA, WIDTH)
    for start in range(0, len(labels), 64):
        collected.add(features[start : start + 64], labels[start : start + 64])
    assert_same(collected.statistics(), Statistics.of(ERA, features, labels))
    assert Accumulator(ERA, WIDTH).statistics().total == 0


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 6))
def test_is_the_same_after_saving(
    tmp_path_factory: pytest.TempPathFactory, seed: int, number: int, classes: int
) -> None:
    path = tmp_path_factory.mktemp("saved") / "statistics.safetensors"
    statistics = Statistics.of(ERA, *rows(seed, number, classes))
    statistics.save(path)
    assert_same(Statistics.load(path), statistics)


def test_few_images_take_little_room_on_disk(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(40, 300, generator=generator), torch.arange(40) % 4
    few, many = tmp_path / "few", tmp_path / "many"
    Statistics.of(ERA, features, labels).save(few)
    Statistics.of(ERA, features.repeat(20, 1), labels.repeat(20)).save(many)
    assert few.stat().st_size < many.stat().st_size / 3
    assert_same(Statistics.load(few), Statistics.of(ERA, features, labels))


def test_new_labels_keep_the_rest() -> None:
    statistics = Statistics.of(ERA, *rows(0, 30, 3))
    moved = statistics.relabelled({0: 5, 1: 2, 2: 7})
    assert moved.labels.tolist() == [2, 5, 7]
    assert torch.equal(moved.means, statistics.means[[1, 0, 2]])
    assert torch.equal(moved.counts, statistics.counts[[1, 0, 2]])
    with pytest.raises(DataError, match="class 2 has no new label"):
        statistics.relabelled({0: 0, 1: 1})
    with pytest.raises(DataError, match="the same new label"):
        statistics.relabelled({0: 0, 1: 0, 2: 1})


def test_refuses_what_was_never_there() -> None:
    features, labels = rows(0, 30, 3)
    statistics = Statistics.of(ERA, features, labels)
    with pytest.raises(DataError, match="class 9: more images are to be removed"):
        statistics - Statistics.of(ERA, features[:1], torch.tensor([9]))
    with pytest.raises(DataError, match="class 1: more images"):
        statistics - Statistics.of(ERA, features, torch.ones(30, dtype=torch.int64))


def test_refuses_another_era() -> None:
    features, labels = rows(0, 30, 3)
    statistics = Statistics.of(ERA, features, labels)
    for other in (Statistics.of("f" * 32, features, labels), Statistics.of(ERA, features[:, :3], labels)):
        with pytest.raises(SpaceError, match="two trunks"):
            statistics + other
        with pytest.raises(SpaceError, match="two trunks"):
            statistics - other


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_features_that_are_not_finite(value: float) -> None:
    features, labels = rows(0, 4, 1)
    features[2, 1] = value
    with pytest.raises(DataError, match=r"image 2 \(class 0\) are not finite"):
        Statistics.of(ERA, features, labels)


@pytest.mark.parametrize("damage", ["cut", "text", "missing", "not finite"])
def test_refuses_a_damaged_file(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    statistics = Statistics.of(ERA, *rows(0, 30, 3))
    if damage == "not finite":
        statistics.scatter[0, 0] = torch.nan
    statistics.save(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "text":
        path.write_text("statistics")
    elif damage == "missing":
        path.unlink()
    with pytest.raises(CheckpointError, match="restore it from a copy"):
        Statistics.load(path)


def test_merged_classes_are_one_class() -> None:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 4, (60,), generator=generator)
    merged = Statistics.of("era", features, labels).merged({0: 7, 1: 2, 2: 7, 3: 5})
    expected = Statistics.of("era", features, torch.tensor([7, 2, 7, 5])[labels])
    for name in ("labels", "counts", "means", "scatter"):
        torch.testing.assert_close(getattr(merged, name), getattr(expected, name))
    split = Statistics.of("era", features, labels)
    assert split.merged({0: 3, 1: 2, 2: 1, 3: 0}).labels.tolist() == [0, 1, 2, 3], "nothing is merged"


def test_deviations_are_within_classes_and_can_be_divided_by() -> None:
    features, labels = rows(3, 60, 4)
    features[:, 1] *= 1000
    features[:, 2] = labels.double()
    _, _, scatter = by_loops(features, labels)
    found = Statistics.of(ERA, features, labels).deviations
    torch.testing.assert_close(found[[0, 1]], (scatter.diagonal()[[0, 1]] / 60).sqrt())
    assert (found > 0).all()
    assert found[2] < 2 * found[0]
    assert (Statistics.of(ERA, torch.ones(2, 3), torch.tensor([0, 1])).deviations == 1).all()
