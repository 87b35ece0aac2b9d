from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrubjay.data.sampler import PKSampler
from scrubjay.errors import ConfigError, DataError

LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=80)
P, K = st.integers(2, 5), st.integers(1, 5)
SEED = st.integers(0, 2**40)


@settings(deadline=None)
@given(LABELS, P, K, SEED)
def test_every_image_is_served(labels: list[int], p: int, k: int, seed: int) -> None:
    served = Counter(index for batch in PKSampler(labels, p, k, seed).epoch(0) for index, _ in batch)
    assert set(served) == set(range(len(labels)))


@settings(deadline=None)
@given(LABELS, P, K, SEED)
def test_a_class_in_a_batch_has_k_adjacent_images(labels: list[int], p: int, k: int, seed: int) -> None:
    sizes = Counter(labels)
    for batch in PKSampler(labels, p, k, seed).epoch(1):
        groups = [batch[start : start + k] for start in range(0, len(batch), k)]
        assert len(batch) % k == 0
        assert len({labels[group[0][0]] for group in groups}) == len(groups)
        for group in groups:
            (label,) = {labels[index] for index, _ in group}
            views = Counter(index for index, _ in group)
            assert len(views) == min(k, sizes[label])
            assert max(views.values()) - min(views.values()) <= 1
            assert len(set(group)) == k


@settings(deadline=None)
@given(LABELS, P, K, SEED)
def test_batches_have_p_classes_until_classes_run_out(labels: list[int], p: int, k: int, seed: int) -> None:
    batches = PKSampler(labels, p, k, seed).epoch(0)
    left = {label: -(-count // k) for label, count in Counter(labels).items()}
    classes = len(left)
    for batch in batches:
        running = sum(count > 0 for count in left.values())
        held = {labels[index] for index, _ in batch}
        assert len(held) == (min(p, running) if running > 1 else min(p, classes))
        for label in held:
            left[label] -= 1
    assert max(left.values()) <= 0


@settings(deadline=None)
@given(LABELS, P, K, SEED)
def test_no_batch_with_one_class_where_there_are_two(labels: list[int], p: int, k: int, seed: int) -> None:
    if len(set(labels)) > 1:
        assert all(len({labels[index] for index, _ in batch}) > 1 for batch in PKSampler(labels, p, k, seed).epoch(0))


@settings(deadline=None)
@given(LABELS, P, K, SEED, st.integers(0, 1000))
def test_an_epoch_follows_from_its_number(labels: list[int], p: int, k: int, seed: int, number: int) -> None:
    sampler = PKSampler(labels, p, k, seed)
    expected = sampler.epoch(number)
    sampler.epoch(number + 1)
    assert sampler.epoch(number) == expected
    assert PKSampler(labels, p, k, seed).epoch(number) == expected
    assert sampler.epoch(number + 1) != expected
    assert PKSampler(labels, p, k, seed + 1).epoch(number) != expected
    assert all(type(value) is int and 0 <= value < 2**63 for batch in expected for item in batch for value in item)


def test_balanced_classes_are_served_once_each() -> None:
    labels = [label for label in range(6) for _ in range(8)]
    batches = PKSampler(labels, 3, 4, 0).epoch(0)
    assert [len(batch) for batch in batches] == [12] * 4
    assert sorted(index for batch in batches for index, _ in batch) == list(range(48))


def test_a_large_class_is_spread_over_the_epoch() -> None:
    labels = [0] * 24 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4 + [6] * 4
    batches = PKSampler(labels, 2, 4, 0).epoch(0)
    assert [sum(labels[index] == 0 for index, _ in batch) for batch in batches] == [4] * 6


def test_ties_are_broken_at_random() -> None:
    labels = [label for label in range(20) for _ in range(2)]
    firsts = {labels[PKSampler(labels, 2, 2, 0).epoch(number)[0][0][0]] for number in range(60)}
    assert len(firsts) > 10


def test_one_class_alone() -> None:
    batches = PKSampler([5, 5, 5], 4, 2, 0).epoch(0)
    assert [len(batch) for batch in batches] == [2, 2]


def test_labels_are_any_integers() -> None:
    (batch,) = PKSampler([1_000_000, -3], 4, 1, 0).epoch(0)
    assert sorted(index for index, _ in batch) == [0, 1]


@pytest.mark.parametrize(("p", "k", "seed"), [(1, 4, 0), (4, 0, 0), (4, 4, -1)])
def test_out_of_range(p: int, k: int, seed: int) -> None:
    with pytest.raises(ConfigError, match=rf"classes_per_batch = {p}, images_per_class = {k}, seed = {seed}: take"):
        PKSampler([0, 1], p, k, seed)


def test_no_images() -> None:
    with pytest.raises(DataError, match="no image to learn from; add some"):
        PKSampler([], 4, 4, 0)
